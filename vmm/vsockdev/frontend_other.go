//go:build !linux

package vsockdev

import "errors"

// startFrontend needs eventfds and memory files, which only Linux has.
func (d *Device) startFrontend() error { return errors.ErrUnsupported }
