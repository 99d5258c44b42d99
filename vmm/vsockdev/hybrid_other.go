//go:build !linux

package vsockdev

import (
	"errors"
	"net"
	"syscall"
)

func privateSocket(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }

func waitHangup(*net.UnixConn) bool { return false }
