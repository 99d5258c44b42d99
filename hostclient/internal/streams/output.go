package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

const (
	// A connection is read into a small buffer until it fills that, then into larger ones, and back when it has been dry: so idle streams hold little.
	smallBuffer = 4 << 10
	largeBuffer = 256 << 10

	// linger is how long a connection stays after the last record, for the guest to read it and close.
	linger = time.Second

	// busyBytes in the time that makes a stream dry are too many for that: it waits just now, and will go on.
	busyBytes = 64 << 10

	// drainOld bounds how long a connection that is to be replaced is still read.
	drainOld = 200 * time.Millisecond
)

// past is a deadline that ends a Read or Write at once.
var past = time.Unix(1, 0)

// output receives stdout or stderr into the caller's Writer. Each connection is read by one goroutine, serve; a timer sends the ack of a stream that has run dry.
type output struct {
	set    *Set
	stream pb.Stream
	w      io.Writer

	mu      sync.Mutex
	cond    sync.Cond // rcv, conn or serving changed
	rcv     *stdio.Receiver
	known   bool // rcv's offset is; else the guest's preamble says it
	conn    net.Conn
	gen     uint32
	expect  uint32 // generation of the connection to come; 0: any
	serving bool   // serve runs
	sending bool   // somebody writes a record
	retired bool   // the connection is given up from here
	closed  bool
	err     error // the Writer's
	told    bool  // the Set, of the end
	timer   *time.Timer
	armed   bool
	armedAt uint64 // offset when the timer was started
	reading bool   // serve waits for bytes
	large   bool   // with a large buffer
	trim    bool   // serve is to take a small one
}

func newOutput(s *Set, name pb.Stream, w io.Writer) *output {
	o := &output{set: s, stream: name, w: w, known: true, gen: 1, expect: 1}
	o.cond.L = &o.mu
	var from uint64
	if s.cfg.Attach {
		o.known = s.cfg.AttachAt[name] != nil
		if o.known {
			from = *s.cfg.AttachAt[name]
		}
	}
	o.rcv = stdio.NewReceiver(protocol.MaxChunk, from)
	return o
}

func (o *output) name() pb.Stream { return o.stream }

func (o *output) check(p protocol.Preamble) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.Mode != pb.StdioMode_STDIO_MODE_RESUMABLE || o.expect != 0 && p.Generation != o.expect || o.known && p.Offset != o.rcv.Offset() {
		return fmt.Errorf("%w: %s comes with mode %d, generation %d, offset %d", protocol.ErrProtocol, label(o.stream), p.Mode, p.Generation, p.Offset)
	}
	return nil
}

func (o *output) arrived(c net.Conn, p protocol.Preamble) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.conn != nil {
		_ = c.Close()
		return
	}
	if !o.known {
		o.rcv, o.known = stdio.NewReceiver(protocol.MaxChunk, p.Offset), true
	}
	o.conn, o.gen, o.retired = c, p.Generation, false
	o.rcv.Attached()
	o.serving = true
	o.set.crew.run(func() { o.serve(c) })
}

// serve reads c to its end.
func (o *output) serve(c net.Conn) {
	o.sendRecords(c) // a stop that the connection before may not have carried
	err := o.read(c)
	_ = c.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.sending {
		o.cond.Wait()
	}
	o.rcv.Broken()
	o.conn, o.serving = nil, false
	o.cond.Broadcast()
	if !o.over() && !o.retired && !o.closed {
		o.set.log.Debug("data connection lost", "stream", label(o.stream), "error", err)
		o.set.connectionLost(c, LostStream{Stream: o.stream, Generation: o.gen})
	}
}

// over tells whether the end is received or no more is wanted. mu is held.
func (o *output) over() bool {
	st := o.rcv.State()
	return st == stdio.ReceiverEnded || st == stdio.ReceiverStopped
}

func (o *output) read(c net.Conn) error {
	buf := make([]byte, smallBuffer)
	for {
		o.beforeRead(len(buf) > smallBuffer)
		n, err := c.Read(buf)
		trim := o.afterRead(c)
		if terr := o.take(c, buf[:n]); terr != nil {
			return terr
		}
		switch {
		case trim:
			buf = make([]byte, smallBuffer)
		case err != nil:
			return err
		case n == len(buf) && n < largeBuffer:
			buf = make([]byte, min(8*n, largeBuffer))
		}
	}
}

// beforeRead says that serve is going to wait for bytes, and has the timer ack what is received if that lasts.
func (o *output) beforeRead(large bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reading, o.large = true, large
	if o.rcv.Unacked() || large {
		o.arm()
	}
}

// afterRead tells whether the read was ended for the sake of a smaller buffer.
func (o *output) afterRead(c net.Conn) (trim bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	trim, o.trim, o.reading = o.trim, false, false
	switch {
	case !trim || o.retired:
		return false
	case o.rcv.Final():
		_ = c.SetReadDeadline(time.Now().Add(linger))
	default:
		_ = c.SetReadDeadline(time.Time{})
	}
	return true
}

// arm starts the timer unless it runs. mu is held.
func (o *output) arm() {
	if o.armed || o.closed {
		return
	}
	o.armed, o.armedAt = true, o.rcv.Offset()
	o.set.crew.add(1, 0)
	if o.timer == nil {
		o.timer = time.AfterFunc(protocol.AckDelay, o.dry)
		return
	}
	o.timer.Reset(protocol.AckDelay)
}

// dry is the timer's function: acks what is received if serve is still waiting, and has it give up a large buffer.
func (o *output) dry() {
	defer o.set.crew.add(-1, 0)
	if c := o.hasRunDry(); c != nil {
		o.sendRecords(c)
	}
}

func (o *output) hasRunDry() net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.armed = false
	if !o.reading || o.conn == nil || o.closed {
		return nil
	}
	if o.rcv.Offset()-o.armedAt >= busyBytes {
		o.arm()
		return nil
	}
	o.rcv.Dry()
	if o.large && !o.retired && !o.rcv.Final() {
		o.trim = true
		_ = o.conn.SetReadDeadline(past)
	}
	return o.conn
}

// take parses b and hands its data to the caller's Writer. The error is a protocol error.
func (o *output) take(c net.Conn, b []byte) error {
	for len(b) > 0 {
		o.mu.Lock()
		data, n, err := o.rcv.Parse(b)
		wanted := !o.over() && !o.closed
		o.mu.Unlock()
		if err != nil {
			return err
		}
		b = b[n:]
		if len(data) > 0 && wanted {
			o.deliver(data)
		}
		o.sendRecords(c)
	}
	o.tellEnd()
	return nil
}

// tellEnd tells the Set if all is delivered.
func (o *output) tellEnd() {
	o.mu.Lock()
	ended := o.rcv.State() == stdio.ReceiverEnded && !o.told
	o.told = o.told || ended
	o.mu.Unlock()
	if ended {
		o.set.outputEnded()
	}
}

func (o *output) length() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rcv.Offset()
}

// deliver calls the caller's Write.
func (o *output) deliver(data []byte) {
	var n int
	var err error
	o.set.crew.call(func() { n, err = o.w.Write(data) })
	if n < 0 || n > len(data) {
		n, err = 0, errors.New("Write returned an invalid count")
	}
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rcv.Delivered(n)
	if err != nil {
		o.err = err
		o.rcv.Stop(protocol.StopWriterFailed)
	}
	o.cond.Broadcast()
}

// sendRecords writes the records that are due, unless somebody else does already: that one writes them then. A write that fails shows in the next read.
func (o *output) sendRecords(c net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sending {
		return
	}
	for o.conn == c {
		rec := o.rcv.Pending()
		if len(rec) == 0 {
			break
		}
		o.sending = true
		o.mu.Unlock()
		n, err := c.Write(rec)
		o.mu.Lock()
		o.sending = false
		o.cond.Broadcast()
		if err != nil {
			break
		}
		o.rcv.Wrote(n)
		if o.rcv.Final() {
			_ = c.SetReadDeadline(time.Now().Add(linger))
		}
	}
}

// retire gives the connection up. What is on its way is still taken, for a moment; what is not comes again.
func (o *output) retire(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = true
	if o.conn != nil {
		_ = o.conn.SetReadDeadline(time.Now().Add(drainOld))
		_ = o.conn.SetWriteDeadline(time.Now().Add(drainOld))
	}
	defer context.AfterFunc(ctx, o.wake)()
	for o.serving && ctx.Err() == nil {
		o.cond.Wait()
	}
	return ctx.Err()
}

func (o *output) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cond.Broadcast()
}

func (o *output) request(takeOver bool) *pb.AttachStream {
	o.mu.Lock()
	defer o.mu.Unlock()
	req := &pb.AttachStream{Stream: o.stream, Generation: o.gen, TakeOver: takeOver}
	if o.known {
		offset := o.rcv.Offset()
		req.Offset = &offset
	}
	o.expect = o.gen + 1
	if takeOver {
		o.expect = 0
	}
	return req
}

func (o *output) setGeneration(gen uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gen = gen
}

// detach tells the guest, which keeps what is not received.
func (o *output) detach() {
	o.mu.Lock()
	c := o.conn
	o.retired = true
	if c == nil {
		o.mu.Unlock()
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(drainOld))
	o.rcv.Stop(protocol.StopDetached)
	o.mu.Unlock()
	o.sendRecords(c)
	_ = c.Close()
}

// finish waits for what the guest says that it delivered.
func (o *output) finish(ctx context.Context, out *pb.Output) error {
	defer context.AfterFunc(ctx, o.wake)()
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		switch {
		case o.rcv.State() == stdio.ReceiverStopped:
			return o.err
		case out == nil:
			return nil
		case o.rcv.State() == stdio.ReceiverEnded || o.rcv.Offset() > out.Length && out.Drained:
			if out.Drained && o.rcv.Offset() != out.Length {
				return lengthError(o.stream, o.rcv.Offset(), out.Length)
			}
			return nil
		case !out.Drained && o.rcv.Offset() >= out.Length:
			return nil
		case o.closed:
			return errClosed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		o.cond.Wait()
	}
}

func (o *output) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.conn != nil {
		_ = o.conn.Close()
	}
	if o.armed && o.timer.Stop() {
		o.armed = false
		o.set.crew.add(-1, 0)
	}
	o.cond.Broadcast()
}
