package framefilter

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
	hostConn, guestConn *Conn
	host, guest         *yamux.Session
}

func newPair(t testing.TB) *pair {
	t.Helper()
	a, b := pipe(t)
	p := &pair{
		hostConn:  New(a, Host, Limits{}),
		guestConn: New(b, Guest, Limits{}),
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
		for side, conn := range map[string]*Conn{"host": p.hostConn, "guest": p.guestConn} {
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
	const workers, rounds = 32, 64
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
	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	s, err := p.host.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(testBound))
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

// TestYamuxResets has both sides close and reset streams in the middle of everything: no honest mixture may look like a violation.
func TestYamuxResets(t *testing.T) {
	p := newPair(t)
	p.serve(t, func(s net.Conn) {
		b := make([]byte, 1)
		if _, err := io.ReadFull(s, b); err != nil {
			return
		}
		switch b[0] % 3 {
		case 0: // close at once, with data on its way from both sides
		case 1:
			io.CopyN(s, s, 1000)
		case 2:
			echo(s)
		}
	})
	const workers, rounds = 16, 40
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range rounds {
				if err := abandon(p.host, byte(w+i)); err != nil {
					t.Errorf("stream %d of worker %d: %v", i, w, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// abandon writes while it reads, and closes when some of the answer has come or the peer has closed.
func abandon(session *yamux.Session, first byte) error {
	s, err := session.Open()
	if err != nil {
		return err
	}
	data := bytes.Repeat([]byte{first}, 20_000)
	var writer sync.WaitGroup
	writer.Go(func() { s.Write(data) }) // fails when the stream is closed below, as it should
	defer writer.Wait()
	defer s.Close()
	s.SetDeadline(time.Now().Add(testBound))
	_, err = io.CopyN(io.Discard, s, 500)
	if errors.Is(err, io.EOF) || errors.Is(err, yamux.ErrConnectionReset) {
		return nil
	}
	return err
}

// TestYamuxForcedClose has the host give up on streams that the guest never closes, and the guest go on sending on them.
func TestYamuxForcedClose(t *testing.T) {
	a, b := pipe(t)
	hostConn, guestConn := New(a, Host, Limits{}), New(b, Guest, Limits{})
	impatient := config()
	impatient.StreamCloseTimeout = time.Millisecond
	host, err := yamux.Client(hostConn, impatient)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	guest, err := yamux.Server(guestConn, config())
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	for i := range 100 {
		ours, err := host.Open()
		if err != nil {
			t.Fatalf("stream %d: Open() = %v", i, err)
		}
		theirs, err := guest.Accept()
		if err != nil {
			t.Fatalf("stream %d: Accept() = %v (host %v, guest %v)", i, err, hostConn.Err(), guestConn.Err())
		}
		ours.Close()
		theirs.SetDeadline(time.Now().Add(testBound))
		chunk := make([]byte, 10_000)
		for err = nil; err == nil; {
			_, err = theirs.Write(chunk) // until the reset arrives
		}
		if !errors.Is(err, yamux.ErrConnectionReset) {
			t.Fatalf("stream %d: Write() = %v (host %v, guest %v); want %v", i, err, hostConn.Err(), guestConn.Err(), yamux.ErrConnectionReset)
		}
	}
}
