//go:build linux

package relay

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// end is the agent's end of a pipe, or one direction of a terminal's master: non-blocking, in the runtime's poller.
type end struct {
	*rawIO
	file *os.File
	pipe *pipeSize // nil: a terminal
}

// newEnd takes a file that the runtime's poller knows.
func newEnd(f *os.File) (*end, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", f.Name(), err)
	}
	return &end{rawIO: newRawIO(rc), file: f}, nil
}

// pollable gives f anew as a non-blocking file of the runtime's poller. A blocking one would hold up a processor in a read.
func pollable(f *os.File) (*os.File, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	cerr := rc.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	})
	if err := errors.Join(cerr, err); err != nil {
		return nil, fmt.Errorf("cannot take over %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// past is a deadline that ends every wait.
var past = time.Unix(1, 0)

// Close ends every wait, and returns when the last call on the descriptor has.
func (e *end) Close() error {
	e.closePipe()
	return e.file.Close()
}

// The kicks end a wait and all that follow, until unkicked.
func (e *end) kickRead()    { _ = e.file.SetReadDeadline(past) }
func (e *end) unkickRead()  { _ = e.file.SetReadDeadline(time.Time{}) }
func (e *end) kickWrite()   { _ = e.file.SetWriteDeadline(past) }
func (e *end) unkickWrite() { _ = e.file.SetWriteDeadline(time.Time{}) }
