package stdio

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
)

// FuzzReceiver feeds a live receiver with whatever a hostile sender may send, in pieces of any length. The first byte of the input cuts the pieces.
func FuzzReceiver(f *testing.F) {
	chunk := func(b []byte, data string) []byte {
		var head [protocol.ChunkHeaderSize]byte
		protocol.PutChunkHeader(head[:], len(data))
		return append(append(b, head[:]...), data...)
	}
	good := protocol.AppendEnd(chunk(chunk([]byte{3}, "hello"), "world"), 10)
	f.Add(good)
	f.Add(append(bytes.Clone(good), 0))
	f.Add(protocol.AppendEnd([]byte{1}, 7))
	f.Add([]byte{200, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		piece, wire := 1+int(in[0]), in[1:]
		r := NewReceiver(64, 0)
		r.Attached()
		var got []byte
		for len(wire) > 0 {
			b := wire[:min(piece, len(wire))]
			wire = wire[len(b):]
			for len(b) > 0 {
				data, n, err := r.Parse(b)
				if err != nil {
					if !errors.Is(err, protocol.ErrProtocol) {
						t.Fatalf("Parse: %v; want a protocol error", err)
					}
					return
				}
				if n == 0 || n > len(b) || len(data) > n {
					t.Fatalf("Parse consumed %d of %d bytes and gave %d", n, len(b), len(data))
				}
				got = append(got, data...)
				r.Delivered(len(data))
				b = b[n:]
			}
		}
		if r.Offset() != uint64(len(got)) || r.Undelivered() != 0 {
			t.Fatalf("Offset() = %d, Undelivered() = %d; want %d, 0", r.Offset(), r.Undelivered(), len(got))
		}
		if r.State() == ReceiverEnded {
			rec, err := protocol.ParseRecord(r.Pending())
			if err != nil || rec.Type != protocol.RecordEndAcked || rec.Offset != r.Offset() {
				t.Fatalf("after the end: record %+v, %v", rec, err)
			}
		}
	})
}

// FuzzSender feeds a live sender, in the middle of its stream and behind its end, with whatever a hostile receiver may send.
func FuzzSender(f *testing.F) {
	ack := func(b []byte, t protocol.RecordType, reason protocol.StopReason, offset uint64) []byte {
		return protocol.Record{Type: t, Reason: reason, Offset: offset}.Append(b)
	}
	f.Add(ack(ack([]byte{5}, protocol.RecordAck, 0, 10), protocol.RecordAck, 0, 20), false)
	f.Add(ack([]byte{7}, protocol.RecordEndAcked, 0, 100), true)
	f.Add(ack([]byte{7}, protocol.RecordEndAcked, 0, 100), false)
	f.Add(ack([]byte{1}, protocol.RecordStop, protocol.StopWriterFailed, 50), false)
	f.Add(ack([]byte{1}, protocol.RecordAck, 0, 101), true)
	f.Fuzz(func(t *testing.T, in []byte, ended bool) {
		if len(in) == 0 {
			return
		}
		const total = 100
		pool := NewPool(1<<20, nil, nil)
		s := NewSender(NewRing(pool, 4<<10, 0), 30, false)
		s.Space(nil, total)
		s.Filled(total)
		if ended {
			s.SourceEnded()
		}
		if _, err := s.BeginAttach(nil); err != nil {
			t.Fatal(err)
		}
		s.Attached()
		for bufs := s.Pending(nil); len(bufs) > 0; bufs = s.Pending(nil) {
			s.Wrote(len(bytes.Join(bufs, nil)))
		}
		piece, wire := 1+int(in[0]), in[1:]
		for len(wire) > 0 {
			b := wire[:min(piece, len(wire))]
			wire = wire[len(b):]
			acked := s.Acked()
			if err := s.Records(b); err != nil {
				if !errors.Is(err, protocol.ErrProtocol) {
					t.Fatalf("Records: %v; want a protocol error", err)
				}
				return
			}
			if s.Acked() < acked || s.Acked() > total {
				t.Fatalf("Acked() went from %d to %d", acked, s.Acked())
			}
			if s.EndAcked() && (!ended || s.Acked() != total) {
				t.Fatalf("the end is acked at %d, ended %t", s.Acked(), ended)
			}
		}
		if s.State() == SenderDone && pool.Used() != 0 {
			t.Fatalf("done, with %d bytes of memory", pool.Used())
		}
	})
}

// TestWire compares what a sender writes with the golden vector, byte for byte.
func TestWire(t *testing.T) {
	text, err := os.ReadFile("testdata/stream.hex")
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	s := NewSender(NewRing(nil, 4<<10, 0), 6, false)
	for _, span := range s.Space(nil, 11) {
		s.Filled(copy(span, "hello world"))
	}
	s.SourceEnded()
	if _, err := s.BeginAttach(nil); err != nil {
		t.Fatal(err)
	}
	s.Attached()
	var got []byte
	for bufs := s.Pending(nil); len(bufs) > 0; bufs = s.Pending(nil) {
		b := bytes.Join(bufs, nil)
		got = append(got, b...)
		s.Wrote(len(b))
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the sender wrote\n%x; want\n%x", got, want)
	}
}
