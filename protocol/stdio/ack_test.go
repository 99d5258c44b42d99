package stdio

import (
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
)

// receive has r receive n bytes in chunks of 64 KiB and gives how many acks it wrote.
func receive(t *testing.T, r *Receiver, n int) (acks int) {
	t.Helper()
	const size = 64 << 10
	head := make([]byte, protocol.ChunkHeaderSize)
	protocol.PutChunkHeader(head, size)
	chunk := append(head, make([]byte, size)...)
	for ; n > 0; n -= size {
		for b := chunk; len(b) > 0; {
			data, used, err := r.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			b = b[used:]
			r.Delivered(len(data))
		}
		if rec := r.Pending(); len(rec) > 0 {
			r.Wrote(len(rec))
			acks++
		}
	}
	return acks
}

// TestAckDue: acks are rare, unless the input has run dry with much owed: then the sender's ring may be small, and full.
func TestAckDue(t *testing.T) {
	r := NewReceiver(protocol.MaxChunk, 0)
	r.Attached()
	if got := receive(t, r, 4<<20); got != 8 {
		t.Errorf("4 MiB were acked %d times; want 8", got)
	}
	receive(t, r, 64<<10)
	r.Dry()
	r.Wrote(len(r.Pending()))
	if got := receive(t, r, 4<<20); got != 8 {
		t.Errorf("4 MiB behind a pause with little owed were acked %d times; want 8", got)
	}
	receive(t, r, 256<<10)
	r.Dry()
	r.Wrote(len(r.Pending()))
	if got := receive(t, r, 4<<20); got != 32 {
		t.Errorf("4 MiB behind a pause with 256 KiB owed were acked %d times; want 32", got)
	}
	receive(t, r, smallAcks)
	if got := receive(t, r, 4<<20); got != 8 {
		t.Errorf("4 MiB long after that were acked %d times; want 8", got)
	}
}
