package stdio

import (
	"fmt"

	"github.com/bellhop-vm/bellhop/protocol"
)

// RangeError says that an attach named an offset that the sender does not hold.
type RangeError struct {
	Offset      uint64 // asked for
	First, Next uint64 // what could be had
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("offset %d is not held, only %d to %d are", e.Offset, e.First, e.Next)
}

// SenderState is where a Sender is in the table of SPEC 6.3. That the source has ended is known beside it, by Ended.
type SenderState uint8

const (
	SenderBroken  SenderState = iota // no connection: the ring is kept
	SenderFlowing                    // a connection takes bytes, or the end
	SenderDone                       // all is received, or no more is wanted
)

// Sender is the sender's side of a stream. It begins broken; its first connection comes by an attach like every other.
type Sender struct {
	ring       *Ring
	maxChunk   int
	dropOldest bool

	state    SenderState
	pinned   bool   // an attach goes on: its offset must stay in the ring
	pin      uint64 // that offset
	ended    bool
	endAcked bool // the end was received, by some connection
	stop     protocol.StopReason

	sent uint64 // offset behind the last byte written to this connection
	fr   frame
	rec  recordBuffer
}

// frame is the chunk or the end that is being written.
type frame struct {
	head    [protocol.EndSize]byte
	from    int // first byte of head that is not written
	to      int // length of head; 0: no frame
	end     uint64
	isFinal bool // the end, not a chunk
}

// NewSender makes the sender of a stream whose next byte is at offset. It owns ring, which must be empty and begin there. maxChunk is the peer's limit. dropOldest is the policy of
// SPEC 6.3: without a connection the oldest bytes make room.
func NewSender(ring *Ring, maxChunk int, dropOldest bool) *Sender {
	return &Sender{ring: ring, maxChunk: maxChunk, dropOldest: dropOldest}
}

// State gives the state, Ended whether the source has ended, EndAcked whether a receiver has confirmed all of it.
func (s *Sender) State() SenderState { return s.state }
func (s *Sender) Ended() bool        { return s.ended }
func (s *Sender) EndAcked() bool     { return s.endAcked }

// Stopped gives the reason with which the receiver wanted no more (StopClosed or StopWriterFailed), else StopNone.
func (s *Sender) Stopped() protocol.StopReason { return s.stop }

// Acked is the offset before which everything is received (or dropped, by policy), Next the offset behind the newest byte; after the end it is the total.
func (s *Sender) Acked() uint64 { return s.ring.First() }
func (s *Sender) Next() uint64  { return s.ring.Next() }

// Room gives the bytes that the ring could take, Cap the most that it takes.
func (s *Sender) Room() int { return s.ring.Room() }
func (s *Sender) Cap() int  { return s.ring.Cap() }

// Unacked gives the bytes that the ring holds, Unsent how many of them (or of the end) wait to be written to the present connection.
func (s *Sender) Unacked() int { return s.ring.Len() }

func (s *Sender) Unsent() bool {
	return s.state == SenderFlowing && (s.sent < s.ring.Next() || s.fr.to > 0 || s.ended && !s.endSent())
}

func (s *Sender) endSent() bool { return s.fr.isFinal && s.fr.to == 0 }

// Space appends to dst at most want bytes of the ring to read the source into. None means that the source must wait. Without a connection, and with the
// policy to drop, the oldest bytes make room first.
func (s *Sender) Space(dst [][]byte, want int) [][]byte {
	if s.ended || s.state == SenderDone {
		return dst
	}
	n := len(dst)
	dst = s.ring.Append(dst, want)
	for len(dst) == n && s.MayDrop() {
		s.ring.Discard(s.ring.First() + uint64(min(s.ring.Cap()/dropDivisor, s.ring.Len())))
		dst = s.ring.Append(dst, want)
	}
	return dst
}

// dropDivisor makes the oldest eighth of a full ring go at a time, so that not every read of the source has to drop.
const dropDivisor = 8

// MayDrop tells whether a full ring makes room by dropping its oldest bytes.
func (s *Sender) MayDrop() bool {
	return s.dropOldest && s.state == SenderBroken && !s.pinned && s.ring.Len() > 0
}

// Filled says that n bytes of the last Space came from the source.
func (s *Sender) Filled(n int) { s.ring.Commit(n) }

// SourceEnded says that the source has no more bytes.
func (s *Sender) SourceEnded() {
	if s.state != SenderDone {
		s.ended = true
	}
}

// Trim gives back memory that holds nothing; the owner calls it before it waits for the source.
func (s *Sender) Trim() { s.ring.Trim() }

// Pending appends to dst what is to be written to the connection next: the rest of a chunk, and behind the last one the end. Wrote says how much of it was.
func (s *Sender) Pending(dst [][]byte) [][]byte {
	if s.state != SenderFlowing {
		return dst
	}
	if s.fr.to == 0 {
		s.nextFrame()
	}
	if s.fr.to == 0 {
		return dst
	}
	if s.fr.from < s.fr.to {
		dst = append(dst, s.fr.head[s.fr.from:s.fr.to])
	}
	return s.ring.Spans(dst, s.sent, s.fr.end)
}

// nextFrame begins a chunk with all that is unsent, or the end.
func (s *Sender) nextFrame() {
	switch unsent := s.ring.Next() - s.sent; {
	case unsent > 0:
		n := min(unsent, uint64(s.maxChunk))
		s.fr = frame{to: protocol.ChunkHeaderSize, end: s.sent + n}
		protocol.PutChunkHeader(s.fr.head[:], int(n))
	case s.ended && !s.fr.isFinal:
		s.fr = frame{to: protocol.EndSize, end: s.sent, isFinal: true}
		protocol.AppendEnd(s.fr.head[:0], s.ring.Next())
	}
}

// Wrote says that the connection took n bytes of the last Pending.
func (s *Sender) Wrote(n int) {
	h := min(n, s.fr.to-s.fr.from)
	s.fr.from += h
	s.sent += uint64(n - h)
	if s.fr.from == s.fr.to && s.sent == s.fr.end {
		s.fr.from, s.fr.to = 0, 0
	}
}

// Records takes what the connection's other direction carried, in pieces of any length. An error wraps protocol.ErrProtocol and means that the connection must be closed and
// Broken called.
func (s *Sender) Records(b []byte) error {
	for len(b) > 0 {
		if s.state != SenderFlowing {
			return fmt.Errorf("%w: bytes behind the last record", protocol.ErrProtocol)
		}
		n, full := s.rec.fill(b)
		b = b[n:]
		if !full {
			return nil
		}
		r, err := protocol.ParseRecord(s.rec.take())
		if err != nil {
			return err
		}
		if err := s.record(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sender) record(r protocol.Record) error {
	if r.Offset < s.ring.First() || r.Offset > s.sent {
		return fmt.Errorf("%w: record with offset %d, %d to %d are in flight", protocol.ErrProtocol, r.Offset, s.ring.First(), s.sent)
	}
	switch r.Type {
	case protocol.RecordAck:
		s.ring.Discard(r.Offset)
	case protocol.RecordEndAcked:
		if !s.endSent() || r.Offset != s.ring.Next() {
			return fmt.Errorf("%w: the end is acknowledged at %d and was not sent so", protocol.ErrProtocol, r.Offset)
		}
		s.endAcked = true
		s.done(r.Offset)
	case protocol.RecordStop:
		s.stopped(r)
	}
	return nil
}

func (s *Sender) stopped(r protocol.Record) {
	if r.Reason == protocol.StopDetached {
		s.ring.Discard(r.Offset)
		s.Broken()
		return
	}
	s.stop = r.Reason
	s.ended = true
	s.done(r.Offset)
}

// done forgets everything. An attach that still comes gets the end at once.
func (s *Sender) done(total uint64) {
	s.Broken()
	s.ring.Reset(total)
	s.state = SenderDone
}

// Broken says that the connection is over. It may be repeated.
func (s *Sender) Broken() {
	if s.state == SenderFlowing {
		s.state = SenderBroken
	}
	s.fr = frame{}
	s.rec = recordBuffer{}
}

// BeginAttach checks that the stream can go on at offset, at the oldest byte held if it is nil, and gives that offset, for the preamble. It stays in the ring until
// Attached or AttachFailed. The error is a *RangeError. The sender must be broken or done.
func (s *Sender) BeginAttach(offset *uint64) (uint64, error) {
	from := s.ring.First()
	if offset != nil {
		from = *offset
	}
	if from < s.ring.First() || from > s.ring.Next() {
		return 0, &RangeError{Offset: from, First: s.ring.First(), Next: s.ring.Next()}
	}
	s.pinned, s.pin = true, from
	return from, nil
}

// Attached says that a connection is up whose preamble named the offset that BeginAttach gave: everything before it is received.
func (s *Sender) Attached() {
	s.pinned = false
	s.ring.Discard(s.pin)
	s.sent = s.pin
	s.fr = frame{}
	s.rec = recordBuffer{}
	s.state = SenderFlowing
}

// AttachFailed ends what BeginAttach began.
func (s *Sender) AttachFailed() { s.pinned = false }

// Abandon forgets everything: nobody will ever want it.
func (s *Sender) Abandon() {
	s.ended = true
	s.done(s.ring.Next())
}
