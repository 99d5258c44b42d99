//go:build linux

package nursery

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// A child that executes /proc/self/exe, or a process that gets at it, reaches the nursery's binary from inside a container (runc's CVE-2019-5736). So it must be one that nobody can
// write to, whatever the file's permissions: a sealed memfd. sealed gives the binary if it is one, or a copy.
func sealed(exe *os.File) (*os.File, error) {
	if exe == nil {
		own, err := os.Open("/proc/self/exe")
		if err != nil {
			return nil, err
		}
		defer own.Close()
		exe = own
	}
	if got, err := unix.FcntlInt(exe.Fd(), unix.F_GET_SEALS, 0); err == nil && got&unix.F_SEAL_WRITE != 0 {
		dup, err := unix.FcntlInt(exe.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		return os.NewFile(uintptr(dup), exe.Name()), os.NewSyscallError("fcntl", err)
	}
	return sealedCopy(exe)
}

func sealedCopy(exe *os.File) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate("bellhopd", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	copied := os.NewFile(uintptr(fd), "bellhopd")
	defer func() {
		if err != nil {
			copied.Close()
		}
	}()
	info, err := exe.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(copied, io.NewSectionReader(exe, 0, info.Size())); err != nil {
		return nil, fmt.Errorf("cannot copy the binary: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return copied, nil
}
