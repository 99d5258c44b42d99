//go:build linux

package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/kmod"
)

// loop is a block device made of a file, loop(4). Once mounted it needs no care: it goes with the last mount of it, also after Close.
type loop struct {
	device *os.File
}

// Path names the device.
func (l *loop) Path() string { return l.device.Name() }

// Close gives the device back, unless it is mounted.
func (l *loop) Close() { _ = l.device.Close() }

// attachLoop makes a device of the file at path.
func attachLoop(path string, readOnly bool) (*loop, error) {
	mode := os.O_RDWR
	flags := uint32(unix.LO_FLAGS_AUTOCLEAR)
	if readOnly {
		mode, flags = os.O_RDONLY, flags|unix.LO_FLAGS_READ_ONLY
	}
	image, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	control, err := openLoopControl()
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := &unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: flags}}
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], path)
	const tries = 64 // somebody else may take the device that was free
	for range tries {
		var l *loop
		if l, err = configure(control, config, mode); !errors.Is(err, unix.EBUSY) {
			return l, err
		}
	}
	return nil, err
}

// openLoopControl opens the device that knows which loop device is free.
func openLoopControl() (*os.File, error) {
	const path = "/dev/loop-control"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
		return f, err
	}
	if err := kmod.Demand("loop"); err != nil {
		return nil, fmt.Errorf("cannot make a block device of a file: %w", err)
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// configure takes a free device. EBUSY: it is free no more.
func configure(control *os.File, config *unix.LoopConfig, mode int) (*loop, error) {
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("cannot find a free loop device: %w", err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), mode, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlLoopConfigure(int(device.Fd()), config); err != nil {
		_ = device.Close()
		return nil, fmt.Errorf("cannot make a block device of a file: %w", err)
	}
	return &loop{device: device}, nil
}
