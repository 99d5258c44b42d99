//go:build linux && !race

package rawio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// call makes a call, and tells the scheduler of it if told is set.
func call(trap, fd uintptr, p unsafe.Pointer, n int, told bool) (int, unix.Errno) {
	if told {
		done, _, errno := unix.Syscall(trap, fd, uintptr(p), uintptr(n))
		return int(done), errno
	}
	done, _, errno := unix.RawSyscall(trap, fd, uintptr(p), uintptr(n))
	return int(done), errno
}
