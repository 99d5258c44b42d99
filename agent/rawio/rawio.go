//go:build linux

// Package rawio does the system calls of the agent's busy descriptors without telling Go's scheduler.
//
// A descriptor that does not block needs no care of the scheduler's: the call takes as long as its copying. Told of it, the scheduler gives the processor away in the middle
// of the copying and wants it back behind it, and where the agent was idle before, it wakes its watchdog thread (sysmon), which costs more than a small call itself.
package rawio

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrAgain means that the call would have blocked.
var ErrAgain = errors.New("would block")

// tellPeriod is how many calls go by until the scheduler is told of one all the same: a goroutine that never has to wait is interrupted by nobody but the watchdog, which
// sleeps until it is woken.
const tellPeriod = 256

// Caller makes the calls of one descriptor in one direction, one at a time. The zero value is ready.
type Caller struct{ calls uint }

// Call does read(2), write(2), readv(2) or writev(2) on a descriptor that does not block, again when a signal interrupts it. p and n are the buffer, or the vector. The error is
// ErrAgain or an errno.
func (c *Caller) Call(trap, fd uintptr, p unsafe.Pointer, n int) (int, error) {
	c.calls++
	for {
		done, errno := call(trap, fd, p, n, c.calls%tellPeriod == 0)
		switch errno {
		case 0:
			return done, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, errno
		}
	}
}
