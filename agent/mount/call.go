//go:build linux

package mount

import (
	"errors"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/kmod"
)

// mountSource mounts a file system whose source may be an image in a file, as mount(8) does.
func mountSource(source, target, fstype string, flags uintptr, data string) error {
	if st, err := os.Stat(source); err == nil && st.Mode().IsRegular() && flags&(unix.MS_BIND|unix.MS_REMOUNT) == 0 {
		device, err := attachLoop(source, flags&unix.MS_RDONLY != 0)
		if err != nil {
			return err
		}
		defer device.Close()
		source = device.Path()
	}
	return mountLoading(source, target, fstype, flags, data)
}

// mountLoading mounts. A module that the kernel lacks for it, and that the initramfs has, is loaded: where no modprobe(8) is installed the kernel cannot do that itself.
func mountLoading(source, target, fstype string, flags uintptr, data string) error {
	err := unix.Mount(source, target, fstype, flags, data)
	module := ""
	switch {
	case errors.Is(err, unix.ENODEV):
		module = fstype
	case errors.Is(err, unix.ESRCH): // the file system has quotas, and the kernel does not know their format
		module = "quota_v2"
	default:
		return err
	}
	if kmod.Demand(module) == nil {
		err = unix.Mount(source, target, fstype, flags, data)
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return failure.New(errdefs.ErrNotImplemented, "the kernel has no file system %s, and the initramfs no module of that name", fstype)
	case errors.Is(err, unix.ESRCH):
		return failure.New(errdefs.ErrNotImplemented, "the file system has quotas, for which the kernel needs the module quota_v2")
	}
	return err
}
