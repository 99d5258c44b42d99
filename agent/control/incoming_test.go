package control

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// message encodes a request that creates a container with a spec of so many bytes.
func message(t *testing.T, size int) []byte {
	t.Helper()
	b, err := protocol.AppendMessage(nil, protocol.MaxMessage, protocol.KindRequest, &pb.Request{Op: &pb.Request_Create{Create: &pb.Create{
		What: &pb.Create_Container{Container: &pb.Container{Spec: bytes.Repeat([]byte{'x'}, size)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestIncomingPieces has requests come in pieces of any length, and directly behind each other.
func TestIncomingPieces(t *testing.T) {
	sizes := []int{0, 1, smallBody, 100 << 10, protocol.MaxMessage - 64, 3}
	var all []byte
	for _, size := range sizes {
		all = append(all, message(t, size)...)
	}
	for _, piece := range []int{1, 2, 5, 4096, maxFrame, len(all)} {
		var in incoming
		var got []int
		for rest := all; len(rest) > 0; {
			part := rest[:min(piece, len(rest))]
			n, req, err := in.take(bytes.NewReader(part), len(part))
			if err != nil || n == 0 {
				t.Fatalf("take(%d bytes) = %d, %v; want some of them", len(part), n, err)
			}
			rest = rest[n:]
			if req != nil {
				got = append(got, len(req.GetCreate().GetContainer().GetSpec()))
			}
		}
		if len(got) != len(sizes) {
			t.Fatalf("in pieces of %d: %d requests; want %d", piece, len(got), len(sizes))
		}
		for i := range got {
			if got[i] != sizes[i] {
				t.Errorf("in pieces of %d: request %d has a spec of %d bytes; want %d", piece, i, got[i], sizes[i])
			}
		}
		if cap(in.body) > smallBody {
			t.Errorf("an idle stream holds %d bytes; want at most %d", cap(in.body), smallBody)
		}
	}
}

// TestIncomingHoldsLittle believes no announcement: there is memory for twice what has come.
func TestIncomingHoldsLittle(t *testing.T) {
	var in incoming
	b := message(t, protocol.MaxMessage-64)[:100<<10]
	if _, _, err := in.take(bytes.NewReader(b), len(b)); err != nil {
		t.Fatal(err)
	}
	if cap(in.body) > 2*len(b) {
		t.Errorf("%d bytes are held for %d that came; want at most twice as many", cap(in.body), len(b))
	}
}

func TestIncomingRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"a response":     {0, 0, 0, 0, byte(protocol.KindResult)},
		"over the limit": {0, 0x10, 0, 1, byte(protocol.KindRequest)},
		"garbage":        {0, 0, 0, 1, byte(protocol.KindRequest), 0xff},
	} {
		var in incoming
		if _, _, err := in.take(bytes.NewReader(b), len(b)); !errors.Is(err, protocol.ErrProtocol) {
			t.Errorf("%s: take() = %v; want a protocol error", name, err)
		}
	}
}
