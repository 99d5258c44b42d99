//go:build linux

package rawio

import (
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/net/nettest"
)

// pair gives both ends of a unix socket, as NewConn makes them.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return NewConn(dialled), NewConn(accepted)
}

// oneAtATime is what the tests of nettest need beyond what a Conn promises: there, several goroutines write at once.
type oneAtATime struct {
	net.Conn
	reads, writes chan struct{}
}

func serialise(c net.Conn) net.Conn {
	return &oneAtATime{Conn: c, reads: make(chan struct{}, 1), writes: make(chan struct{}, 1)}
}

func (c *oneAtATime) Read(p []byte) (int, error) {
	c.reads <- struct{}{}
	defer func() { <-c.reads }()
	return c.Conn.Read(p)
}

func (c *oneAtATime) Write(p []byte) (int, error) {
	c.writes <- struct{}{}
	defer func() { <-c.writes }()
	return c.Conn.Write(p)
}

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := pair(t)
		return serialise(a), serialise(b), func() { a.Close(); b.Close() }, nil
	})
}

func TestConnAllocatesNothing(t *testing.T) {
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	buf := make([]byte, 64)
	n := testing.AllocsPerRun(1000, func() {
		if _, err := a.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(buf); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("a write and a read allocate %v times; want 0", n)
	}
}

// TestConnWithoutDescriptor is used as it is.
func TestConnWithoutDescriptor(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if c := NewConn(a); c != a {
		t.Errorf("NewConn(pipe) = %T; want the pipe itself", c)
	}
}
