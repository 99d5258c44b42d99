package streams

import (
	"bytes"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// slowConn takes what is written, behind the accept record, only when it is closed.
type slowConn struct {
	net.Conn
	writing chan struct{} // gets an element when a Write waits
	changed chan bool     // gets whether the bytes changed while it waited
	closed  chan struct{}
	once    sync.Once
}

func (c *slowConn) Write(b []byte) (int, error) {
	if len(b) == protocol.AcceptSize {
		return c.Conn.Write(b)
	}
	before := bytes.Clone(b)
	c.writing <- struct{}{}
	<-c.closed
	c.changed <- !bytes.Equal(b, before)
	return 0, net.ErrClosed
}

func (c *slowConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// slowListener gives slowConns.
type slowListener struct {
	net.Listener
	conns chan *slowConn
}

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	sc := &slowConn{Conn: c, writing: make(chan struct{}, 1), changed: make(chan bool, 1), closed: make(chan struct{})}
	l.conns <- sc
	return sc, nil
}

// TestDisconnectWhileWriting ends a connection of stdin, in every way that the host does it, in the middle of a Write: the Write comes back before anything of
// what it writes is used for something else.
func TestDisconnectWhileWriting(t *testing.T) {
	for name, end := range map[string]func(*Set){
		"attach": func(s *Set) { _, _ = s.AttachRequest(false, nil) },
		"detach": (*Set).Detach,
		"close":  func(s *Set) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(t.TempDir(), "s")
			ul, err := net.Listen("unix", at)
			if err != nil {
				t.Fatal(err)
			}
			l := &slowListener{Listener: ul, conns: make(chan *slowConn, 1)}
			g := &guestDialer{t: t, hub: NewHub(l, 9, nil, nil), at: at}
			t.Cleanup(func() { g.hub.Close() })
			s := g.newSet(Config{Stdin: bytes.NewReader(make([]byte, 1<<20))})
			if _, err := g.connect(preamble(s, pb.Stream_STREAM_STDIN)); err != nil {
				t.Fatal(err)
			}
			s.Created()
			c := <-l.conns
			<-c.writing
			end(s)
			select {
			case changed := <-c.changed:
				if changed {
					t.Error("the bytes changed while they were written")
				}
			default:
				t.Error("the Write was left behind")
			}
		})
	}
}
