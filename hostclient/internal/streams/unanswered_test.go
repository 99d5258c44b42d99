package streams

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// connectAgain dials until the host has taken up the connection before.
func (g *guestDialer) connectAgain(p protocol.Preamble) net.Conn {
	g.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := g.connect(p)
		if err == nil {
			return c
		}
		c.Close()
		if time.Now().After(end) {
			g.t.Fatalf("the stream is not expected again: %v", err)
		}
	}
}

// TestRepeatedCreate has the guest roll back and dial again under the same tokens, as for a Create that is repeated on the next control connection.
func TestRepeatedCreate(t *testing.T) {
	g := newGuestDialer(t, nil)
	var out bytes.Buffer
	r, w := io.Pipe()
	defer w.Close()
	s := g.newSet(Config{Stdin: r, Stdout: &out})
	stdin, stdout := preamble(s, pb.Stream_STREAM_STDIN), preamble(s, pb.Stream_STREAM_STDOUT)
	for range 3 {
		g.connectAgain(stdin).Close()
		g.connectAgain(stdout).Close()
	}
	g.connectAgain(stdin)
	c := g.connectAgain(stdout)
	if err := s.Connected(t.Context()); err != nil {
		t.Fatalf("Connected() = %v; want no error", err)
	}
	s.Created()
	if _, err := c.Write(protocol.AppendEnd([]byte{0, 0, 0, 2, 'h', 'i'}, 2)); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(t.Context(), []*pb.Output{{Stream: pb.Stream_STREAM_STDOUT, Length: 2, Drained: true}}); err != nil || out.String() != "hi" {
		t.Errorf("Finish() = %v, the Writer got %q; want hi", err, out.String())
	}
	select {
	case l := <-s.Lost():
		t.Errorf("Lost() = %v; want none", l)
	default:
	}
}

// TestLostBeforeCreated has a connection break between what the guest does and its answer to Create: then it is a loss like any other.
func TestLostBeforeCreated(t *testing.T) {
	g := newGuestDialer(t, nil)
	s := g.newSet(Config{Stdout: io.Discard})
	p := preamble(s, pb.Stream_STREAM_STDOUT)
	g.connectAgain(p).Close()
	s.Created()
	select {
	case l := <-s.Lost():
		if l != (LostStream{pb.Stream_STREAM_STDOUT, 1}) {
			t.Errorf("Lost() = %v; want stdout, generation 1", l)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the loss is not reported")
	}
	if _, err := g.connect(p); err == nil {
		t.Error("the token is accepted after Created")
	}
}

// TestRepeatedDialOfAttach has the guest lose the accept record of an Attach and dial again, and the connection break for good before the answer is there.
func TestRepeatedDialOfAttach(t *testing.T) {
	g := newGuestDialer(t, nil)
	s := g.newSet(Config{Stdout: io.Discard})
	p := preamble(s, pb.Stream_STREAM_STDOUT)
	g.connectAgain(p)
	s.Created()
	for generation := uint32(2); generation < 5; generation++ {
		reqs, err := s.AttachRequest(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.Generation, p.Token = generation, protocol.Token(reqs[0].Token)
		for range 3 {
			g.connectAgain(p).Close()
		}
		if err := s.Connected(t.Context()); err != nil {
			t.Fatalf("Connected() = %v; want no error", err)
		}
		if err := s.Attached(&pb.Attached{Streams: []*pb.StreamInfo{{Stream: pb.Stream_STREAM_STDOUT, Generation: generation}}}); err != nil {
			t.Fatalf("Attached(…) = %v; want no error", err)
		}
		select {
		case l := <-s.Lost():
			if l != (LostStream{pb.Stream_STREAM_STDOUT, generation}) {
				t.Errorf("Lost() = %v; want stdout, generation %d", l, generation)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the loss is not reported")
		}
	}
}

// TestAttachOvertakesArrival attaches again before the host has taken up the connection that the guest believes to have: what Create made is generation 1 all the same.
func TestAttachOvertakesArrival(t *testing.T) {
	g := newGuestDialer(t, nil)
	s := g.newSet(Config{Stdin: bytes.NewReader(nil), Stdout: io.Discard})
	reqs, err := s.AttachRequest(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range reqs {
		if req.Generation != 1 {
			t.Errorf("AttachRequest() names generation %d of %v; want 1", req.Generation, req.Stream)
		}
		if _, err := g.connect(protocol.Preamble{Stream: req.Stream, Generation: 2, Token: protocol.Token(req.Token)}); err != nil {
			t.Errorf("generation 2 of %v is not accepted: %v", req.Stream, err)
		}
	}
}

// TestSilentConnectionIsReplaced has the guest miss the accept record of a connection which the host can't see to be over, and dial again under the same token: the new connection
// is the stream's, and nothing of it is a loss.
func TestSilentConnectionIsReplaced(t *testing.T) {
	for _, mode := range []pb.StdioMode{pb.StdioMode_STDIO_MODE_RESUMABLE, pb.StdioMode_STDIO_MODE_DIRECT} {
		t.Run(mode.String(), func(t *testing.T) {
			g := newGuestDialer(t, nil)
			var out bytes.Buffer
			s := g.newSet(Config{Stdin: bytes.NewReader([]byte("in")), Stdout: &out, Options: [3]Options{{Mode: mode}, {Mode: mode}}})
			stdin, stdout := preamble(s, pb.Stream_STREAM_STDIN), preamble(s, pb.Stream_STREAM_STDOUT)
			for range 2 {
				g.connectAgain(stdin)
				g.connectAgain(stdout)
			}
			in, c := g.connectAgain(stdin), g.connectAgain(stdout)
			if err := s.Connected(t.Context()); err != nil {
				t.Fatalf("Connected() = %v; want no error", err)
			}
			s.Created()
			wantIn, give := []byte("in"), []byte("hi")
			if mode == pb.StdioMode_STDIO_MODE_RESUMABLE {
				wantIn = protocol.AppendEnd([]byte{0, 0, 0, 2, 'i', 'n'}, 2)
				give = protocol.AppendEnd([]byte{0, 0, 0, 2, 'h', 'i'}, 2)
			}
			if got, err := readN(in, len(wantIn)); err != nil || !bytes.Equal(got, wantIn) {
				t.Errorf("stdin carries %q, %v; want %q", got, err, wantIn)
			}
			if _, err := c.Write(give); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if err := s.Finish(t.Context(), []*pb.Output{{Stream: pb.Stream_STREAM_STDOUT, Length: 2, Drained: true}}); err != nil || out.String() != "hi" {
				t.Errorf("Finish() = %v, the Writer got %q; want hi", err, out.String())
			}
			select {
			case l := <-s.Lost():
				t.Errorf("Lost() = %v; want none", l)
			default:
			}
		})
	}
}

// TestReplacedBehindTheAnswer has the answer to Create overtake the connection that takes the place of a direct stream's first one: the stream goes on with the new one.
func TestReplacedBehindTheAnswer(t *testing.T) {
	g := newGuestDialer(t, nil)
	var out bytes.Buffer
	s := g.newSet(Config{Stdout: &out, Options: [3]Options{pb.Stream_STREAM_STDOUT: {Mode: pb.StdioMode_STDIO_MODE_DIRECT}}})
	d := s.streams[0].(*direct)
	silent, _ := net.Pipe()
	present, guest := net.Pipe()
	d.arrived(silent, protocol.Preamble{})
	if err := d.retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.begin()
	d.arrived(present, protocol.Preamble{})
	if _, err := guest.Write([]byte("hi")); err != nil {
		t.Errorf("the new connection is not read: %v", err)
	}
	guest.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Finish(ctx, nil); err != nil || out.String() != "hi" {
		t.Errorf("Finish() = %v, the Writer got %q; want hi", err, out.String())
	}
}

func readN(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	n, err := io.ReadFull(r, b)
	return b[:n], err
}
