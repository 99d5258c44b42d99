//go:build linux

package pidfd

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Status says how a child ended.
type Status struct {
	PID    int         // as the caller of Add named it
	Code   int         // exit code, 0 to 255; -1 when a signal ended the child
	Signal unix.Signal // the signal that ended the child, or 0
	Core   bool        // the signal dumped core
	Rusage unix.Rusage // of the child and of its descendants that it waited for
	Err    error       // the status is lost: somebody else has reaped the child, or it is no child of this process (ECHILD)
}

// Wait statuses of siginfo_t.si_code for SIGCHLD, from sigaction(2).
const (
	cldExited = 1
	cldDumped = 3
)

// siginfo is the part of siginfo_t that waitid(2) fills in. Linux lays it out alike on all 64-bit architectures that Go supports, except mips64.
type siginfo struct {
	signo  int32
	errno  int32
	code   int32
	_      int32
	pid    int32
	uid    uint32
	status int32
	_      [128 - 28]byte
}

// Open returns the pidfd of a process, which the caller closes. It is for children of this process that nobody has waited for yet: another's pid may have passed on to a stranger.
func Open(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open pidfd of process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Signal sends a signal to the process of a pidfd. The error is [unix.ESRCH] if it has been reaped.
func Signal(pidfd *os.File, sig unix.Signal) error {
	return unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0)
}

// Await waits until the process of a pidfd has ended, whether or not it is reaped, and says whether it has. It holds a thread, so it is for what is about to happen; with a bound of 0 it only looks.
func Await(pidfd *os.File, bound time.Duration) bool {
	deadline := time.Now().Add(bound)
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline)).Milliseconds()))
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// reap collects the status of an ended child. It reports false when there is none yet: the child runs, or its tracer has not let go of it.
// __WALL is for children whose exit signal is not SIGCHLD.
func reap(fd int) (Status, bool) {
	var info siginfo
	var s Status
	for {
		err := unix.Waitid(unix.P_PIDFD, fd, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WALL, &s.Rusage)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.Code, s.Err = -1, os.NewSyscallError("waitid", err)
			return s, true
		}
		if info.pid == 0 {
			return Status{}, false
		}
		s.decode(&info)
		return s, true
	}
}

func (s *Status) decode(info *siginfo) {
	if info.code == cldExited {
		s.Code = int(info.status)
		return
	}
	s.Code, s.Signal, s.Core = -1, syscall.Signal(info.status), info.code == cldDumped
}

// String describes the status as a shell would.
func (s Status) String() string {
	switch {
	case s.Err != nil:
		return "status unknown: " + s.Err.Error()
	case s.Signal != 0 && s.Core:
		return "signal: " + s.Signal.String() + " (core dumped)"
	case s.Signal != 0:
		return "signal: " + s.Signal.String()
	}
	return fmt.Sprintf("exit status %d", s.Code)
}
