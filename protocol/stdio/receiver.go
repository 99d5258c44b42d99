package stdio

import (
	"encoding/binary"
	"fmt"

	"github.com/bellhop-vm/bellhop/protocol"
)

// ReceiverState is where a Receiver is in the table of SPEC 6.4.
type ReceiverState uint8

const (
	ReceiverBroken    ReceiverState = iota // no connection: the offset is kept
	ReceiverReceiving                      // bytes come
	ReceiverEnded                          // the end and all before it is received
	ReceiverStopped                        // no more is wanted
)

// Receiver is the receiver's side of a stream. It begins broken.
type Receiver struct {
	maxChunk int

	connected bool
	offset    uint64 // behind the last byte that the sink took
	parsed    uint64 // behind the last byte taken off the connection
	acked     uint64 // as the sender knows it
	small     uint64 // acks come early before this offset
	stop      protocol.StopReason
	sawEnd    bool // on this connection
	ended     bool // sawEnd, and all before it delivered, on some connection

	head  [protocol.EndSize]byte
	headN int
	left  int // bytes of the present chunk that have not come

	out  [protocol.RecordSize]byte // the record being written
	outN int                       // bytes of it that are not written
	last bool                      // nothing may follow it
}

// NewReceiver makes the receiver of a stream from offset on. A chunk above maxChunk is a protocol error.
func NewReceiver(maxChunk int, offset uint64) *Receiver {
	return &Receiver{maxChunk: maxChunk, offset: offset, parsed: offset, acked: offset}
}

// State gives the state. After the end or a stop the connection no longer matters.
func (r *Receiver) State() ReceiverState {
	switch {
	case r.stop != protocol.StopNone && r.stop != protocol.StopDetached:
		return ReceiverStopped
	case r.ended:
		return ReceiverEnded
	case r.connected:
		return ReceiverReceiving
	}
	return ReceiverBroken
}

// Offset is behind the last byte that the sink took: where an attach goes on.
func (r *Receiver) Offset() uint64 { return r.offset }

// Undelivered gives the bytes that were taken off the connection and not yet by the sink.
func (r *Receiver) Undelivered() uint64 { return r.parsed - r.offset }

// Parse takes bytes off the connection. It consumes n bytes of b and gives the run of data within them, if any, which is to be handed to the sink; it is to be called until
// b is used up. An error wraps protocol.ErrProtocol and means that the connection must be closed and Broken called.
func (r *Receiver) Parse(b []byte) (data []byte, n int, err error) {
	for n < len(b) {
		if r.left > 0 {
			k := min(r.left, len(b)-n)
			r.left -= k
			r.parsed += uint64(k)
			return b[n : n+k : n+k], n + k, nil
		}
		k, err := r.parseHead(b[n:])
		n += k
		if err != nil {
			return nil, n, err
		}
	}
	return nil, n, nil
}

// parseHead takes bytes of a chunk's header or of the end.
func (r *Receiver) parseHead(b []byte) (int, error) {
	if r.sawEnd {
		return 0, fmt.Errorf("%w: bytes behind the end", protocol.ErrProtocol)
	}
	want := protocol.ChunkHeaderSize
	if r.headN >= want {
		want = protocol.EndSize
	}
	n := copy(r.head[r.headN:want], b)
	r.headN += n
	switch r.headN {
	case protocol.ChunkHeaderSize:
		size, err := protocol.ChunkLength(r.head[:], r.maxChunk)
		if err != nil {
			return n, err
		}
		if size > 0 {
			return n, r.beginChunk(size)
		}
	case protocol.EndSize:
		return n, r.end(binary.BigEndian.Uint64(r.head[protocol.ChunkHeaderSize:]))
	}
	return n, nil
}

func (r *Receiver) beginChunk(size int) error {
	if r.ended {
		return fmt.Errorf("%w: a chunk behind the end at %d", protocol.ErrProtocol, r.offset)
	}
	r.left, r.headN = size, 0
	return nil
}

func (r *Receiver) end(total uint64) error {
	if total != r.parsed {
		return fmt.Errorf("%w: the end says %d bytes, %d came", protocol.ErrProtocol, total, r.parsed)
	}
	r.sawEnd, r.headN = true, 0
	r.finish()
	return nil
}

// Delivered says that the sink took n bytes, in order.
func (r *Receiver) Delivered(n int) {
	r.offset += uint64(n)
	r.finish()
}

// finish notices that the end is seen and all before it delivered.
func (r *Receiver) finish() {
	if !r.sawEnd || r.parsed != r.offset {
		return
	}
	r.ended = true
	if r.connected && !r.last && r.outN == 0 {
		r.queue(protocol.Record{Type: protocol.RecordEndAcked, Offset: r.offset})
	}
}

// Stop says that no more bytes are wanted. With StopClosed or StopWriterFailed that is for good; StopDetached leaves the connection.
func (r *Receiver) Stop(reason protocol.StopReason) {
	if r.State() == ReceiverStopped || r.ended {
		return
	}
	r.stop = reason
	r.queueStop()
}

func (r *Receiver) queueStop() {
	if r.connected && !r.last && r.outN == 0 {
		r.queue(protocol.Record{Type: protocol.RecordStop, Reason: r.stop, Offset: r.offset})
	}
}

// smallAcks is for how many bytes acks come early after the sender may have waited for one.
const smallAcks = 64 << 20

// AckDue tells whether enough is received that an ack should go now. Dry queues one if anything at all is not acked: the input has been dry for protocol.AckDelay.
func (r *Receiver) AckDue() bool {
	owed := r.offset - r.acked
	return owed >= protocol.AckBytes || owed >= protocol.AckBytesSmall && r.offset < r.small
}

// Unacked tells whether an ack is owed or a record waits to be written, so that Dry should be called when the input has run dry.
func (r *Receiver) Unacked() bool {
	return r.connected && (r.offset != r.acked && !r.last || r.outN > 0)
}

// Dry says that the input has been dry for protocol.AckDelay. With much not acked, it may be because the sender's ring is small, and full.
func (r *Receiver) Dry() {
	if r.offset-r.acked >= protocol.AckBytesSmall {
		r.small = r.offset + smallAcks
	}
	r.ack(r.offset != r.acked)
}

func (r *Receiver) ack(due bool) {
	if due && r.connected && !r.last && r.outN == 0 {
		r.queue(protocol.Record{Type: protocol.RecordAck, Offset: r.offset})
	}
}

// queue makes rec the record to write. There is never more than one: what happens while it waits is merged into the next.
func (r *Receiver) queue(rec protocol.Record) {
	rec.Append(r.out[:0])
	r.outN = len(r.out)
	r.last = rec.Type != protocol.RecordAck
	r.acked = rec.Offset
}

// Pending gives what is to be written to the connection; empty if nothing is due. Wrote says how much of it was.
func (r *Receiver) Pending() []byte {
	r.ack(r.AckDue())
	return r.out[len(r.out)-r.outN:]
}

// Wrote says that the connection took n bytes of the last Pending.
func (r *Receiver) Wrote(n int) {
	r.outN -= n
	if r.outN > 0 {
		return
	}
	r.finish() // what had to wait for the record's rest
	if r.stop != protocol.StopNone {
		r.queueStop()
	}
}

// Final tells that the last record is written: nothing more comes from this side, and the connection is to be closed after the peer has.
func (r *Receiver) Final() bool { return r.last && r.outN == 0 }

// Broken says that the connection is over. It may be repeated.
func (r *Receiver) Broken() {
	r.connected = false
	r.headN, r.left, r.outN = 0, 0, 0
}

// Dropped says that what was taken off the connection and not delivered is dropped; it comes again.
func (r *Receiver) Dropped() { r.parsed = r.offset }

// Attached says that a connection is up whose preamble named Offset. What had been taken off an earlier connection and not delivered is to be dropped by the owner: it comes
// again.
func (r *Receiver) Attached() {
	r.Broken()
	r.connected = true
	r.parsed, r.acked = r.offset, r.offset
	r.sawEnd, r.last = false, false
	if r.stop == protocol.StopDetached {
		r.stop = protocol.StopNone
	}
	r.queueStopAgain()
}

// queueStopAgain tells a new connection what the old one may not have heard.
func (r *Receiver) queueStopAgain() {
	if r.stop != protocol.StopNone {
		r.queueStop()
	}
}
