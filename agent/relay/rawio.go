//go:build linux

package relay

import (
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/rawio"
)

// rawIO does non-blocking system calls on a descriptor of the runtime's poller: a socket, a pipe or a terminal. The calls go through RawConn.Control, so
// that none meets a descriptor that was closed and reused.
type rawIO struct {
	rc     syscall.RawConn
	caller rawio.Caller

	// The arguments and results of the call that is going on, and the functions made once, so that a call allocates nothing.
	bufs      [][]byte
	iovs      []unix.Iovec
	n         int
	err       error
	readFunc  func(uintptr)
	writeFunc func(uintptr)
}

func newRawIO(rc syscall.RawConn) *rawIO {
	r := &rawIO{rc: rc}
	r.readFunc = func(fd uintptr) { r.n, r.err = r.vector(unix.SYS_READV, fd) }
	r.writeFunc = func(fd uintptr) { r.n, r.err = r.vector(unix.SYS_WRITEV, fd) }
	return r
}

// vector calls readv(2) or writev(2).
func (r *rawIO) vector(trap, fd uintptr) (int, error) {
	r.iovs = r.iovs[:0]
	for _, b := range r.bufs {
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(len(b))
		r.iovs = append(r.iovs, iov)
	}
	defer clear(r.iovs)
	return r.caller.Call(trap, fd, unsafe.Pointer(unsafe.SliceData(r.iovs)), len(r.iovs))
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
