//go:build linux && race

package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is what it is without the race detector, but that reads and writes go through package syscall: it tells the detector that what comes before a write comes before what follows the read.
func call(trap, fd uintptr, p unsafe.Pointer, n int, _ bool) (int, unix.Errno) {
	var done int
	var err error
	switch trap {
	case unix.SYS_READ:
		done, err = syscall.Read(int(fd), unsafe.Slice((*byte)(p), n))
	case unix.SYS_WRITE:
		done, err = syscall.Write(int(fd), unsafe.Slice((*byte)(p), n))
	default:
		done, _, errno := unix.RawSyscall(trap, fd, uintptr(p), uintptr(n))
		return int(done), errno
	}
	errno, _ := err.(unix.Errno)
	return done, errno
}
