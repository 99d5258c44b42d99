//go:build linux

package rawio

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewConn gives c with a Read and a Write that make their calls as a Caller does. One Read and one Write may run at the same time, not more. A connection without a descriptor is
// given back as it is. Closing the result closes c.
func NewConn(c net.Conn) net.Conn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return c
	}
	r := &conn{Conn: c, in: transfer{rc: rc, trap: unix.SYS_READ}, out: transfer{rc: rc, trap: unix.SYS_WRITE}}
	r.in.try, r.out.try = r.in.call, r.out.call
	return r
}

type conn struct {
	net.Conn
	in, out transfer
}

func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.do(c.in.rc.Read, p)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, c.explain("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := c.out.do(c.out.rc.Write, p[done:])
		if err != nil {
			return done, c.explain("write", err)
		}
		done += n
	}
	return done, nil
}

// explain makes an errno an error of the connection. That the connection is closed, or past its deadline, comes as such an error.
func (c *conn) explain(op string, err error) error {
	errno, ok := err.(unix.Errno)
	if !ok {
		return err
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// transfer is a read or write. try is its method call, made once, so that a transfer allocates nothing.
type transfer struct {
	Caller
	rc   syscall.RawConn
	trap uintptr
	try  func(fd uintptr) bool
	buf  []byte
	n    int
	err  error
}

// do has wait, which is the connection's Read or Write, call try whenever the descriptor is ready. Its own errors are the connection's: closed, or past its deadline.
func (t *transfer) do(wait func(func(uintptr) bool) error, p []byte) (int, error) {
	t.buf = p
	defer func() { t.buf = nil }()
	if err := wait(t.try); err != nil {
		return 0, err
	}
	return t.n, t.err
}

func (t *transfer) call(fd uintptr) bool {
	t.n, t.err = t.Call(t.trap, fd, unsafe.Pointer(unsafe.SliceData(t.buf)), len(t.buf))
	return t.err != ErrAgain
}
