//go:build linux

package relay

import (
	"net"
	"syscall"

	"github.com/bellhop-vm/bellhop/agent/rawio"
)

// errAgain means that a link can neither read nor write now without blocking.
var errAgain = rawio.ErrAgain

// link is one connection as the relays use it: they try, without blocking and under their lock, and wait, without the lock, until a try may succeed.
//
// tryReadv and tryWritev must not be called from two goroutines at once. An end of file is io.EOF. Close interrupts every wait.
type link interface {
	tryReadv(bufs [][]byte) (int, error)
	tryWritev(bufs [][]byte) (int, error)

	// whenReadable calls f now and whenever there may be something to read, until f returns true or the link is closed. whenWritable does so for writing.
	// The argument of f means nothing.
	whenReadable(f func(uintptr) bool) error
	whenWritable(f func(uintptr) bool) error

	// buffered tells whether a tryWritev took bytes that are not written yet; flush writes them, and blocks.
	buffered() bool
	flush() error

	net.Conn
}

// newLink prefers the kernel's own readiness and makes do with any net.Conn.
func newLink(c net.Conn) link {
	if sc, ok := c.(syscall.Conn); ok {
		if rc, err := sc.SyscallConn(); err == nil {
			return &rawLink{rawIO: newRawIO(rc), Conn: c}
		}
	}
	return &plainLink{Conn: c}
}

// rawLink is a connection with a file descriptor.
type rawLink struct {
	*rawIO
	net.Conn
}

func (*rawLink) buffered() bool { return false }
func (*rawLink) flush() error   { return nil }
