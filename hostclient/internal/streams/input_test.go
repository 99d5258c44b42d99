package streams

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// readInput reads chunks off c until n bytes of data have come, and gives them.
func readInput(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	var data []byte
	for len(data) < n {
		var head [protocol.ChunkHeaderSize]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatalf("%d bytes of input came, then %v; want %d", len(data), err, n)
		}
		chunk := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, chunk); err != nil {
			t.Fatalf("%d bytes of input came, then %v in a chunk; want %d", len(data), err, n)
		}
		data = append(data, chunk...)
	}
	return data
}

// reattach answers an Attach of stdin as a guest that has taken everything before offset.
func (g *guestDialer) reattach(s *Set, generation uint32, offset uint64) net.Conn {
	g.t.Helper()
	reqs, err := s.AttachRequest(false, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	c, err := g.connect(protocol.Preamble{Stream: pb.Stream_STREAM_STDIN, Generation: generation, Token: protocol.Token(reqs[0].Token), Offset: offset})
	if err != nil {
		g.t.Fatalf("the guest's connection at offset %d is not accepted: %v", offset, err)
	}
	if err := s.Attached(&pb.Attached{Streams: []*pb.StreamInfo{{Stream: pb.Stream_STREAM_STDIN, Generation: generation}}}); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// TestInputGoesOnAtItsOffset has a connection of stdin break when the guest has all that the ring holds and no ack of it has come: the offset of the next
// connection is the ack, and what waits for room in the ring goes on.
func TestInputGoesOnAtItsOffset(t *testing.T) {
	const ring = 64 << 10
	g := newGuestDialer(t, nil)
	want := bytes.Repeat([]byte("0123456789abcdef"), 4*ring/16)
	s := g.newSet(Config{Stdin: bytes.NewReader(want), Options: [3]Options{{Ring: ring}}})
	c, err := g.connect(preamble(s, pb.Stream_STREAM_STDIN))
	if err != nil {
		t.Fatal(err)
	}
	s.Created()
	var got []byte
	for generation := uint32(2); len(got) < len(want); generation++ {
		got = append(got, readInput(t, c, ring)...)
		c.Close()
		<-s.Lost()
		c = g.reattach(s, generation, uint64(len(got)))
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the guest got %d bytes that differ from the %d given", len(got), len(want))
	}
}

// TestHostileInputOffset has the guest want what was never sent, and what it has acknowledged. That is final, and whoever waits for the connection is told at once.
func TestHostileInputOffset(t *testing.T) {
	for name, offset := range map[string]uint64{"never sent": 5, "acknowledged": 1} {
		t.Run(name, func(t *testing.T) {
			g := newGuestDialer(t, nil)
			r, w := io.Pipe()
			defer w.Close()
			s := g.newSet(Config{Stdin: r})
			c, err := g.connect(preamble(s, pb.Stream_STREAM_STDIN))
			if err != nil {
				t.Fatal(err)
			}
			s.Created()
			_, _ = io.WriteString(w, "hey")
			readInput(t, c, 3)
			_, _ = c.Write(protocol.Record{Type: protocol.RecordAck, Offset: 2}.Append(nil))
			c.Close()
			<-s.Lost()
			reqs, err := s.AttachRequest(false, nil)
			if err != nil {
				t.Fatal(err)
			}
			p := protocol.Preamble{Stream: pb.Stream_STREAM_STDIN, Generation: 2, Token: protocol.Token(reqs[0].Token), Offset: offset}
			if _, err := g.connect(p); err == nil {
				t.Errorf("offset %d is accepted; 2 to 3 are there", offset)
			}
			if err := s.Connected(t.Context()); !errors.Is(err, protocol.ErrProtocol) {
				t.Errorf("Connected() = %v; want protocol.ErrProtocol", err)
			}
		})
	}
}

// TestCloseStdinKeepsWhatWasGiven closes stdin in the middle of a Read: what came before that Read was called arrives, and the end behind it; what the Read still gives does not.
func TestCloseStdinKeepsWhatWasGiven(t *testing.T) {
	g := newGuestDialer(t, nil)
	r := &steppedReader{called: make(chan struct{}), give: make(chan string)}
	s := g.newSet(Config{Stdin: r})
	c, err := g.connect(preamble(s, pb.Stream_STREAM_STDIN))
	if err != nil {
		t.Fatal(err)
	}
	s.Created()
	for _, b := range []string{"ke", "pt"} {
		<-r.called
		r.give <- b
	}
	<-r.called
	s.CloseStdin()
	r.give <- "dropped"
	if got := readInput(t, c, 4); string(got) != "kept" {
		t.Errorf("the guest got %q; want kept", got)
	}
	if end, err := readN(c, protocol.EndSize); err != nil || !bytes.Equal(end, protocol.AppendEnd(nil, 4)) {
		t.Errorf("then %x, %v; want the end at 4", end, err)
	}
}

// steppedReader tells when it is called, and gives what the test says.
type steppedReader struct {
	called chan struct{}
	give   chan string
}

func (r *steppedReader) Read(b []byte) (int, error) {
	r.called <- struct{}{}
	return copy(b, <-r.give), nil
}
