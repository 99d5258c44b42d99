//go:build linux

package relay

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

// linger is how long a connection stays after its last record, for the host to read it and close.
const linger = time.Second

// input relays stdin, or a terminal's input, from the host. One goroutine, pump, reads the connection and writes the sink.
type input struct {
	stream
	rcv      *stdio.Receiver
	sink     *end // nil before Start
	terminal bool

	buf    *stdio.Ring // bytes off the connection, as they came
	parsed uint64      // position in buf before which all is parsed
	data   [][]byte    // runs of data in buf that the sink has not taken
	tail   []byte      // behind data: a terminal's end of file
	line   lineState

	sinkDone  bool   // the sink is closed, or has its end of file
	lingering bool   // the last record is written
	waits     bool   // pump waits for the connection
	dryAt     uint64 // offset when the timer was started
	want      int    // how much the next read asks for

	spans       [maxSpans][]byte
	dataSpans   [maxSpans][]byte
	readFunc    func(uintptr) bool
	deliverFunc func(uintptr) bool
	recordFunc  func(uintptr) bool
}

func newInput(set *Set, o *pb.Stdio, owner []byte, terminal bool) *input {
	in := &input{
		rcv:      stdio.NewReceiver(protocol.MaxChunk, 0),
		buf:      stdio.NewRing(set.cfg.Budget.pool, readSize, 0),
		terminal: terminal,
		want:     smallRead,
	}
	in.data = in.dataSpans[:0]
	in.init(set, o.Stream, owner)
	in.readFunc = func(uintptr) bool { return in.locked(in.readReady) }
	in.deliverFunc = func(uintptr) bool { return in.locked(in.deliverReady) }
	in.recordFunc = func(uintptr) bool { return in.locked(in.recordReady) }
	return in
}

func (in *input) locked(f func() bool) bool {
	in.mu.Lock()
	defer in.unlock()
	return f()
}

// start begins to relay into sink, which the input owns from now on.
func (in *input) start(sink *end) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sink = sink
	in.run()
}

// run makes sure that pump runs. mu is held, as in all that follow.
func (in *input) run() {
	if in.sink == nil || in.running || in.closed {
		return
	}
	in.running = true
	in.set.wg.Add(1)
	go in.pump()
}

// over tells whether no byte will ever be wanted again.
func (in *input) over() bool {
	st := in.rcv.State()
	return st == stdio.ReceiverEnded || st == stdio.ReceiverStopped
}

// pump moves bytes until the input is closed, or over: then an attach runs it again.
func (in *input) pump() {
	defer in.set.wg.Done()
	in.mu.Lock()
	defer in.unlock()
	for !in.closed {
		if in.deliver() {
			continue
		}
		in.finish()
		if in.sendRecord() || in.more() {
			continue
		}
		if in.over() && in.ln == nil && in.sinkDone {
			break
		}
		in.wait()
	}
	in.running = false
	in.cond.Broadcast()
}

// more parses on when all that was parsed is delivered.
func (in *input) more() bool { return len(in.data) == 0 && len(in.tail) == 0 && in.parse() }

// receive reads the connection. It tells whether anything happened.
func (in *input) receive() bool {
	if in.parse() {
		return true
	}
	if in.ln == nil {
		return false
	}
	bufs := in.buf.Append(in.spans[:0], in.want)
	n, err := in.ln.tryReadv(bufs)
	switch {
	case err == errAgain:
		return false
	case err != nil:
		in.breakLink(err)
		return true
	}
	in.buf.Commit(n)
	in.want, _ = nextRead(n, bufs)
	in.parse()
	return true
}

// parse finds the next runs of data in buf. It tells whether there are any; if not, buf is empty.
func (in *input) parse() bool {
	for _, b := range in.buf.Spans(in.spans[:0], in.parsed, in.buf.Next()) {
		for len(b) > 0 && len(in.data) < maxSpans {
			data, n, err := in.rcv.Parse(b)
			if err != nil {
				in.breakLink(err)
				return len(in.data) > 0
			}
			b = b[n:]
			in.parsed += uint64(n)
			if len(data) > 0 && !in.over() {
				in.data = append(in.data, data)
			}
		}
	}
	if len(in.data) > 0 {
		return true
	}
	in.forget()
	return false
}

// forget drops what is in buf.
func (in *input) forget() {
	in.data = in.dataSpans[:0]
	in.buf.Discard(in.buf.Next())
	in.parsed = in.buf.Next()
}

// deliver writes data, then tail, to the sink. It tells whether anything happened.
func (in *input) deliver() bool {
	if in.sinkDone {
		return false
	}
	if len(in.data) == 0 {
		return in.deliverTail()
	}
	n, err := in.sink.tryWritev(in.data)
	if err != nil {
		return in.sinkFailed(err)
	}
	in.delivered(n)
	if len(in.data) > 0 {
		in.sink.enlarge()
	}
	return true
}

func (in *input) delivered(n int) {
	if in.rcv.State() != stdio.ReceiverStopped { // CloseStdin has counted what was left
		in.rcv.Delivered(n)
	}
	i := 0
	for ; n > 0 && n >= len(in.data[i]); i++ {
		n -= len(in.data[i])
		if in.terminal {
			in.line.wrote(in.data[i])
		}
	}
	if n > 0 {
		if in.terminal {
			in.line.wrote(in.data[i][:n])
		}
		in.data[i] = in.data[i][n:]
	}
	in.data = in.data[:copy(in.data, in.data[i:])]
}

func (in *input) deliverTail() bool {
	if len(in.tail) == 0 {
		return false
	}
	n, err := in.sink.tryWritev([][]byte{in.tail})
	if err != nil {
		return in.sinkFailed(err)
	}
	in.tail = in.tail[n:]
	in.sinkDone = len(in.tail) == 0
	return true
}

// sinkFailed takes every failure as the process's wish to read no more: EPIPE, or EIO of a terminal without a process.
func (in *input) sinkFailed(err error) bool {
	if err == errAgain {
		return in.sink.enlarge() // then there is room
	}
	in.stop()
	return true
}

// stop ends the stream at once: nobody reads it any more.
func (in *input) stop() {
	in.rcv.Stop(protocol.StopClosed)
	in.tail = nil
	in.forget()
	in.endSink()
}

// finish gives the sink its end once all before it is delivered.
func (in *input) finish() {
	if !in.over() || in.sinkDone || len(in.data) > 0 || len(in.tail) > 0 {
		return
	}
	if in.terminal && in.sink != nil && !in.set.exited.Load() {
		if in.tail = in.line.endOfFile(in.sink.file); len(in.tail) > 0 {
			return
		}
	}
	in.endSink()
}

// endSink closes a pipe. A terminal's master stays open: closing it would hang up the process.
func (in *input) endSink() {
	in.sinkDone = true
	if in.sink == nil {
		return
	}
	if in.terminal {
		in.sink.kickWrite()
		return
	}
	in.dispose(in.sink)
}

// closeStdin queues the end behind what is received.
func (in *input) closeStdin() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.over() {
		return in.rcv.Offset()
	}
	in.rcv.Delivered(int(in.rcv.Undelivered())) // as far as the host is concerned
	in.rcv.Stop(protocol.StopClosed)
	in.parsed = in.buf.Next()
	if in.sink != nil {
		in.finish()
		in.sendRecord()
		in.run()
		in.cond.Broadcast()
	}
	return in.rcv.Offset()
}

// processExited stops the stream, with what is on its way.
func (in *input) processExited() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stop()
	in.sendRecord()
	in.cond.Broadcast()
}

// sendRecord writes an ack, the end's ack or a stop if one is due. It tells whether anything was written.
func (in *input) sendRecord() bool {
	if in.ln == nil {
		return false
	}
	rec := in.rcv.Pending()
	if len(rec) == 0 {
		return false
	}
	n, err := in.ln.tryWritev([][]byte{rec})
	if err == errAgain {
		return false
	}
	if err != nil {
		in.breakLink(err)
		return true
	}
	in.rcv.Wrote(n)
	if in.rcv.Final() && !in.lingering {
		in.lingering = true
		_ = in.ln.SetReadDeadline(time.Now().Add(linger))
	}
	return n > 0
}

// breakLink forgets the connection.
func (in *input) breakLink(err error) {
	if !in.over() {
		in.lost = in.gen
		in.set.log("data connection lost", in.name, err)
	}
	in.dropLink()
	in.rcv.Broken()
}

// wait blocks until there may be something to do: for the sink if data waits for it, else for the connection.
func (in *input) wait() {
	ln, sink := in.ln, in.sink
	switch {
	case ln != nil && ln.buffered():
		in.waitWith(ln.flush)
	case len(in.data) > 0 || len(in.tail) > 0:
		in.waitWith(func() error { return sink.whenWritable(in.deliverFunc) })
		if !in.sinkDone {
			sink.unkickWrite()
		}
	case ln == nil:
		in.buf.Trim()
		in.rest()
	case in.over() && len(in.rcv.Pending()) > 0:
		in.waitWith(func() error { return ln.whenWritable(in.recordFunc) })
	default:
		in.waitConn(ln)
	}
}

func (in *input) waitWith(f func() error) {
	in.unlock()
	_ = f() // what is closed says so again when it is tried
	in.mu.Lock()
}

func (in *input) waitConn(ln link) {
	in.waits = true
	in.awaitDry()
	in.unlock()
	err := ln.whenReadable(in.readFunc)
	in.mu.Lock()
	in.waits = false
	if errors.Is(err, os.ErrDeadlineExceeded) && in.ln == ln && in.lingering {
		in.breakLink(io.EOF)
	}
}

// awaitDry starts the timer if an ack is owed.
func (in *input) awaitDry() {
	if in.rcv.Unacked() && !in.timer.armed {
		in.dryAt = in.rcv.Offset()
		in.timer.start(protocol.AckDelay, in.dry)
	}
}

// dry is the timer's function: the input may have run dry.
func (in *input) dry() {
	defer in.set.wg.Done()
	in.mu.Lock()
	in.timer.fired()
	ln := in.ln
	if in.waits && ln != nil {
		if in.rcv.Offset()-in.dryAt < busyBytes {
			in.rcv.Dry()
			in.sendRecord()
			in.sink.reduce()
		}
		in.awaitDry()
	}
	in.unlock()
	if ln != nil {
		_ = ln.flush()
	}
}

// The functions called when a descriptor is ready; they return true when pump has more to do than to wait for that one.
func (in *input) readReady() bool {
	if in.receive() || in.closed || in.ln == nil {
		return true
	}
	in.buf.Trim()
	return false
}

func (in *input) deliverReady() bool {
	return in.closed || in.deliver() || len(in.data) == 0 && len(in.tail) == 0
}

func (in *input) recordReady() bool {
	return in.sendRecord() || in.ln == nil || len(in.rcv.Pending()) == 0
}
