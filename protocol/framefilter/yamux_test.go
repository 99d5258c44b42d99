package framefilter_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/framefilter"
)

// testBound is how long a test waits for something that must happen.
const testBound = 30 * time.Second

// config is what docs/decisions/0003-yamux.md asks of both sides.
func config() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.AcceptBacklog = protocol.MaxStreams
	c.StreamCloseTimeout = 5 * time.Second
	c.StreamOpenTimeout = 0
	c.LogOutput = io.Discard
	return c
}

// pipe gives two connected sockets: net.Pipe would hide what buffering does.
func pipe(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialled, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled, accepted
}

// pair is a host and a guest that speak yamux through filters.
type pair struct {
	hostConn, guestConn *framefilter.Conn
	host, guest         *yamux.Session
}

func newPair(t testing.TB) *pair {
	t.Helper()
	a, b := pipe(t)
	p := &pair{
		hostConn:  framefilter.New(a, framefilter.Host, framefilter.Limits{}),
		guestConn: framefilter.New(b, framefilter.Guest, framefilter.Limits{}),
	}
	var err error
	if p.host, err = yamux.Client(p.hostConn, config()); err != nil {
		t.Fatal(err)
	}
	if p.guest, err = yamux.Server(p.guestConn, config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.host.Close()
		p.guest.Close()
		for side, conn := range map[string]*framefilter.Conn{"host": p.hostConn, "guest": p.guestConn} {
			if err := conn.Err(); err != nil {
				t.Errorf("%s: Err() = %v; want nil", side, err)
			}
		}
	})
	if err := p.host.GoAway(); err != nil {
		t.Fatal(err)
	}
	return p
}

// serve answers every stream with handle until the session ends, and joins what it started.
func (p *pair) serve(t testing.TB, handle func(net.Conn)) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			s, err := p.guest.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer s.Close()
				handle(s)
			})
		}
	})
	t.Cleanup(func() { p.guest.Close(); all.Wait() })
}

func echo(s net.Conn) { io.Copy(s, s) }

func TestYamuxManyStreams(t *testing.T) {
	p := newPair(t)
	p.serve(t, echo)
	const workers, rounds = 64, 64
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range rounds {
				if err := roundTrip(p.host, []byte(fmt.Sprintf("%d/%d", w, i))); err != nil {
					t.Errorf("stream %d of worker %d: %v", i, w, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// roundTrip opens a stream, has data echoed, and closes it.
func roundTrip(session *yamux.Session, data []byte) error {
	s, err := session.Open()
	if err != nil {
		return err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(testBound))
	if _, err := s.Write(data); err != nil {
		return err
	}
	got := make([]byte, len(data))
	if _, err := io.ReadFull(s, got); err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return errors.New("other bytes came back")
	}
	return nil
}

func TestYamuxLargeData(t *testing.T) {
	p := newPair(t)
	p.serve(t, echo)
	data := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	s, err := p.host.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(s, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("other bytes came back")
	}
}
