//go:build linux

package relay

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawIO does non-blocking system calls on a descriptor of the runtime's poller: a socket, a pipe or a terminal. The calls go through RawConn.Control, so
// that none meets a descriptor that was closed and reused.
type rawIO struct {
	rc syscall.RawConn

	// The arguments and results of the call that is going on, and the functions made once, so that a call allocates nothing.
	bufs      [][]byte
	n         int
	err       error
	readFunc  func(uintptr)
	writeFunc func(uintptr)
}

func newRawIO(rc syscall.RawConn) *rawIO {
	r := &rawIO{rc: rc}
	r.readFunc = func(fd uintptr) { r.n, r.err = retry(unix.Readv, int(fd), r.bufs) }
	r.writeFunc = func(fd uintptr) { r.n, r.err = retry(unix.Writev, int(fd), r.bufs) }
	return r
}

func retry(call func(int, [][]byte) (int, error), fd int, bufs [][]byte) (int, error) {
	for {
		n, err := call(fd, bufs)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, errAgain
		}
		return 0, err
	}
}

// tryReadv reads into bufs, which must have room.
func (r *rawIO) tryReadv(bufs [][]byte) (int, error) {
	r.bufs = bufs
	if err := r.rc.Control(r.readFunc); err != nil {
		return 0, err
	}
	r.bufs = nil
	if r.err == nil && r.n == 0 {
		return 0, io.EOF
	}
	return r.n, r.err
}

// tryWritev writes bufs, or a part of them.
func (r *rawIO) tryWritev(bufs [][]byte) (int, error) {
	r.bufs = bufs
	if err := r.rc.Control(r.writeFunc); err != nil {
		return 0, err
	}
	r.bufs = nil
	return r.n, r.err
}

func (r *rawIO) whenReadable(f func(uintptr) bool) error { return r.rc.Read(f) }
func (r *rawIO) whenWritable(f func(uintptr) bool) error { return r.rc.Write(f) }
