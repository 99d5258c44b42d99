package nested

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/mdlayher/vsock"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testStrangers has the host itself, by its local CID, dial every port on which a client awaits the guest, before the guest does: it is turned away before a word of its is read, and disturbs nobody.
func testStrangers(ctx context.Context, t *testing.T) {
	transport := &crowded{Transport: hostclient.Vsock(innerCID), ctx: ctx, t: t}
	client, err := hostclient.Connect(ctx, transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cmd := client.Command(ctx, busybox, "echo", "hello")
	cmd.Config = patiently
	if out, err := cmd.Output(); string(out) != "hello\n" {
		t.Errorf("echo = %q, %v; want hello", out, err)
	}
	if guests, strangers := transport.guests.Load(), transport.strangers.Load(); guests == 0 || strangers != 0 {
		t.Errorf("%d connections of the guest and %d of strangers were accepted; want the guest's only", guests, strangers)
	}
}

// crowded is a transport whose ports have a stranger at the door as soon as they are open. It counts who is let in.
type crowded struct {
	hostclient.Transport
	ctx               context.Context
	t                 *testing.T
	guests, strangers atomic.Int32
}

func (c *crowded) Listen(port uint32) (net.Listener, error) {
	l, err := c.Transport.Listen(port)
	if err != nil {
		return nil, err
	}
	stranger, err := hostclient.Vsock(vsock.Local).Dial(c.ctx, l.Addr().(*vsock.Addr).Port)
	if err != nil {
		c.t.Errorf("a stranger's Dial() = %v; want no error before the host has looked at it", err)
		return l, nil
	}
	door := &crowdedListener{Listener: l, c: c, gone: make(chan struct{})}
	go func() {
		defer close(door.gone)
		defer stranger.Close()
		if n, _ := io.Copy(io.Discard, stranger); n > 0 {
			c.t.Errorf("a stranger was told %d bytes; want none", n)
		}
	}()
	return door, nil
}

type crowdedListener struct {
	net.Listener
	c    *crowded
	gone chan struct{} // closed when the stranger has been turned away
}

func (l *crowdedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	switch {
	case err != nil:
	case conn.RemoteAddr().(*vsock.Addr).ContextID == innerCID:
		<-l.gone // it came first
		l.c.guests.Add(1)
	default:
		l.c.strangers.Add(1)
	}
	return conn, err
}

// Close waits for the stranger too, whom the end of the listener turns away if nobody else has.
func (l *crowdedListener) Close() error {
	err := l.Listener.Close()
	<-l.gone
	return err
}
