package streams

import (
	"bytes"
	"encoding/binary"
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
