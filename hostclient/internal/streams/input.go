package streams

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

// input sends the caller's Reader to stdin. The goroutine feed reads it into the ring and writes it to the connection, for as long as the stream lives. Each connection has a
// goroutine, serve, that writes what the ring has at first, and then reads the guest's records.
type input struct {
	set *Set
	r   io.Reader

	mu      sync.Mutex
	cond    sync.Cond // anything below changed
	ring    int       // size in bytes
	snd     *stdio.Sender
	conn    net.Conn
	w       *vectorWriter // of conn
	gen     uint32
	expect  uint32 // generation of the connection to come; 0: any
	fed     bool   // feed was started
	writing bool   // feed or serve writes a part of the ring
	serving bool   // serve runs
	retired bool   // the connection is given up from here
	ended   bool   // nothing is read any more
	closed  bool
	err     error // the Reader's
}

func newInput(s *Set, r io.Reader, ring uint32) *input {
	in := &input{set: s, r: r, ring: int(ring), gen: 1, expect: 1}
	in.cond.L = &in.mu
	if ring == 0 || ring > protocol.MaxRing {
		in.ring = protocol.MaxRing
	}
	if !s.cfg.Attach {
		in.begin(0)
	}
	return in
}

// errNotHeld says that the guest wants to go on with stdin where it can't: behind what was ever sent, or before what it has acknowledged.
var errNotHeld = fmt.Errorf("%w: offset out of range", protocol.ErrProtocol)

// begin makes the sender, whose first byte is at offset.
func (in *input) begin(offset uint64) {
	in.snd = stdio.NewSender(stdio.NewRing(in.set.hub.pool, in.ring, offset), protocol.MaxChunk, false)
	if in.ended {
		in.snd.SourceEnded()
	}
}

func (in *input) name() pb.Stream { return pb.Stream_STREAM_STDIN }

func (in *input) check(p protocol.Preamble) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if p.Mode != pb.StdioMode_STDIO_MODE_RESUMABLE || in.expect != 0 && p.Generation != in.expect {
		return fmt.Errorf("%w: stdin comes with mode %d, generation %d", protocol.ErrProtocol, p.Mode, p.Generation)
	}
	if in.snd != nil && (p.Offset < in.snd.Acked() || p.Offset > in.snd.Next()) {
		return fmt.Errorf("%w: stdin wants offset %d, %d to %d are there", errNotHeld, p.Offset, in.snd.Acked(), in.snd.Next())
	}
	return nil
}

func (in *input) arrived(c net.Conn, p protocol.Preamble) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed || in.conn != nil {
		_ = c.Close()
		return
	}
	if in.snd == nil {
		in.begin(p.Offset)
	}
	if _, err := in.snd.BeginAttach(&p.Offset); err != nil {
		_ = c.Close()
		return
	}
	in.snd.Attached()
	in.cond.Broadcast() // the offset acknowledges what the connection before could not: feed may have room now
	in.conn, in.gen, in.retired = c, p.Generation, false
	if !in.fed {
		in.fed = true
		in.set.crew.run(in.feed)
	}
	in.w = newVectorWriter(c)
	in.serving = true
	in.set.crew.run(func() { in.serve(c) })
}

// feed reads the caller's Reader into the ring. Its buffer grows while reads fill it.
func (in *input) feed() {
	buf := make([]byte, smallBuffer)
	for {
		room := in.awaitRoom()
		if room == 0 {
			return
		}
		var n int
		var err error
		in.set.crew.call(func() { n, err = in.r.Read(buf[:min(len(buf), room)]) })
		if n < 0 || n > len(buf) {
			n, err = 0, fmt.Errorf("Read returned an invalid count %d", n)
		}
		if !in.append(buf[:n], err) {
			return
		}
		buf = resized(buf, n)
	}
}

// awaitRoom waits for room in the ring, a quarter of it or it would degrade into tiny reads. 0 means that nothing is wanted any more.
func (in *input) awaitRoom() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	for !in.unwanted() && in.snd.Room()*4 < in.snd.Cap() {
		in.cond.Wait()
	}
	if in.unwanted() {
		return 0
	}
	return in.snd.Room()
}

// unwanted tells whether what the Reader gives goes nowhere. mu is held.
func (in *input) unwanted() bool {
	return in.closed || in.ended || in.snd.State() == stdio.SenderDone
}

// append takes what the Reader gave and sends it. It tells whether to go on reading.
func (in *input) append(b []byte, err error) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.unwanted() {
		return false
	}
	for len(b) > 0 {
		for _, span := range in.snd.Space(nil, len(b)) {
			n := copy(span, b)
			in.snd.Filled(n)
			b = b[n:]
		}
	}
	if err != nil {
		if err != io.EOF {
			in.err = err
		}
		in.end()
	}
	in.send()
	return err == nil
}

// end says that nothing is read any more. mu is held.
func (in *input) end() {
	in.ended = true
	if in.snd != nil {
		in.snd.SourceEnded()
	}
	in.cond.Broadcast()
}

// closeStdin does not wait until the end is written.
func (in *input) closeStdin() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.end()
	if in.conn != nil && !in.writing {
		in.set.crew.run(func() {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.send()
		})
	}
}

// send writes what is unsent to the present connection, unless somebody else does already: that one writes it then. mu is held, but not while it writes.
func (in *input) send() {
	for in.conn != nil && !in.writing {
		c, w := in.conn, in.w
		bufs := in.snd.Pending(w.bufs())
		if len(bufs) == 0 {
			in.snd.Trim()
			return
		}
		in.writing = true
		in.mu.Unlock()
		n, err := w.write(bufs)
		in.mu.Lock()
		in.writing = false
		in.cond.Broadcast()
		switch {
		case in.closed:
			in.snd.Abandon()
		case in.conn != c:
		case err != nil:
			in.broken(err)
		default:
			in.snd.Wrote(n)
		}
	}
}

// serve works for c until the connection is over.
func (in *input) serve(c net.Conn) {
	in.mu.Lock()
	in.send()
	in.mu.Unlock()
	in.readRecords(c)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.serving = false
	in.cond.Broadcast()
}

// readRecords reads the guest's acks until the connection is over. They are applied only between writes, so that no memory is reused while it is being written.
func (in *input) readRecords(c net.Conn) {
	var b [8 * protocol.RecordSize]byte
	for {
		n, err := c.Read(b[:])
		if !in.records(c, b[:n], err) {
			return
		}
	}
}

// records takes what the guest sent. It tells whether to go on reading.
func (in *input) records(c net.Conn, b []byte, err error) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil { // also ends a write that blocks
		_ = c.Close()
	}
	for in.writing && in.conn == c {
		in.cond.Wait()
	}
	if in.conn != c {
		return false
	}
	if perr := in.snd.Records(b); perr != nil {
		err = perr
	}
	switch {
	case in.snd.State() == stdio.SenderDone:
		in.drop()
	case err != nil || in.snd.State() != stdio.SenderFlowing:
		in.broken(err)
	default:
		in.cond.Broadcast()
		return true
	}
	return false
}

// broken forgets the connection. mu is held, as for drop.
func (in *input) broken(err error) {
	c := in.conn
	in.drop()
	in.snd.Broken()
	if !in.retired && !in.closed {
		in.set.log.Debug("data connection lost", "stream", "stdin", "error", err)
		in.set.connectionLost(c, LostStream{Stream: pb.Stream_STREAM_STDIN, Generation: in.gen})
	}
}

func (in *input) drop() {
	_ = in.conn.Close()
	in.conn = nil
	in.cond.Broadcast()
}

// retire closes the connection: what is not acknowledged stays in the ring.
func (in *input) retire(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.disconnect()
	defer context.AfterFunc(ctx, in.wake)()
	for (in.serving || in.writing) && ctx.Err() == nil {
		in.cond.Wait()
	}
	return ctx.Err()
}

// disconnect ends the connection without it being a loss. What is being written must not change before the write has come back. mu is held.
func (in *input) disconnect() {
	in.retired = true
	c := in.conn
	if c == nil {
		return
	}
	_ = c.Close() // ends a write that blocks
	for in.writing && in.conn == c {
		in.cond.Wait()
	}
	if in.conn == c {
		in.broken(nil)
	}
}

func (in *input) wake() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cond.Broadcast()
}

func (in *input) request(takeOver bool) *pb.AttachStream {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.expect = in.gen + 1
	if takeOver {
		in.expect = 0
	}
	return &pb.AttachStream{Stream: pb.Stream_STREAM_STDIN, Generation: in.gen, TakeOver: takeOver}
}

func (in *input) setGeneration(gen uint32) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.gen = gen
}

func (in *input) detach() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.disconnect()
}

// finish does not wait: a process that is gone reads nothing any more.
func (in *input) finish(context.Context, *pb.Output) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

func (in *input) shut() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.disconnect()
	if in.snd != nil && !in.writing {
		in.snd.Abandon()
	}
	in.cond.Broadcast()
}
