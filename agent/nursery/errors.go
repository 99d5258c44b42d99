//go:build linux

package nursery

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrInvalid is wrapped by the error of a request that makes no sense. Nothing has been tried.
	ErrInvalid = errors.New("invalid request")
	// ErrClosed is returned by Spawn after Close.
	ErrClosed = errors.New("nursery is closed")
	// ErrInitExited is returned by Spawn when the container's init has exited.
	ErrInitExited = errors.New("the container's init has exited")
	// ErrUnavailable is returned by Spawn when the nursery dies or wedges again and again. No process has been started.
	ErrUnavailable = errors.New("the nursery does not answer")
)

// An ExecError is the step that failed on the way to a running program, and why. No process is left.
type ExecError struct {
	Step   string        // what was tried, one of the constants StepX
	Detail string        // its object, such as the program's path or the limit's name; may be empty
	Errno  syscall.Errno // the kernel's answer
}

func (e *ExecError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Errno)
	}
	return fmt.Sprintf("%s %s: %v", e.Step, e.Detail, e.Errno)
}

// Unwrap gives the errno, so that errors.Is(err, fs.ErrNotExist) and the like hold.
func (e *ExecError) Unwrap() error { return e.Errno }
