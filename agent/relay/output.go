//go:build linux

package relay

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

const (
	// readSize is the most that one read of a pipe takes, in bytes.
	readSize = 256 << 10

	// smallRead is what a read asks for that is not expected to find more.
	smallRead = 64 << 10

	// maxChunk makes a chunk and its header full packets: Linux's hold 64 KiB, and four bytes more would be a packet of their own.
	maxChunk = readSize - protocol.ChunkHeaderSize

	// busyBytes in the time that makes a stream idle are too many for that: it waits just now, and will go on.
	busyBytes = 64 << 10

	// watchDelay is how long an output must have been idle before a second goroutine waits for its acks.
	watchDelay = 10 * time.Millisecond

	// maxSpans is how many pieces a read or write of the ring may have.
	maxSpans = 32
)

// output relays stdout, stderr or a terminal's output to the host.
//
// Two goroutines: pump reads the source into the ring, writes the ring to the connection, and reads acks where the ring runs short. While it waits for the source, watch
// reads acks and notices that the connection breaks; it is handed that duty only when the output has been idle for a while, so it costs a busy stream nothing.
type output struct {
	stream
	snd      *stdio.Sender
	src      *end // nil before Start
	terminal bool
	slave    fileID // of the terminal's other side

	spans    [maxSpans][]byte
	recordIn [4 * protocol.RecordSize]byte
	pullFunc func(uintptr) bool
	pushFunc func(uintptr) bool
	ackFunc  func(uintptr) bool

	full     bool   // the socket took less than it was given
	idle     bool   // pump waits for the source
	idleAt   uint64 // offset of the source when the timer was started
	watch    bool   // watch is to read acks
	watching bool   // watch reads acks
	starved  bool   // the budget is used up: only acks help
	dry      bool   // the last read took all that the source had
	want     int    // how much the next read asks for
	srcEOF   bool
	drain    drainClock
}

func newOutput(set *Set, o *pb.Stdio, owner []byte, terminal bool) *output {
	size := int(o.RingBytes)
	if size == 0 {
		size = protocol.MaxRing
	}
	ring := stdio.NewRing(set.cfg.Budget.pool, size, 0)
	out := &output{
		snd:      stdio.NewSender(ring, maxChunk, o.Detached == pb.DetachedPolicy_DETACHED_POLICY_DROP_OLDEST),
		terminal: terminal,
		want:     smallRead,
	}
	out.init(set, o.Stream, owner)
	out.pullFunc = func(uintptr) bool { return out.locked(out.pullReady) }
	out.pushFunc = func(uintptr) bool { return out.locked(out.pushReady) }
	out.ackFunc = func(uintptr) bool { return out.locked(out.acksReady) }
	return out
}

// locked runs f under the lock.
func (o *output) locked(f func() bool) bool {
	o.mu.Lock()
	defer o.unlock()
	return f()
}

// start begins to relay src, which the output owns from now on.
func (o *output) start(src *end) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.src = src
	o.run()
}

// startTerminal is start with a terminal's master, which stays the Set's.
func (o *output) startTerminal(master *end, slave fileID) {
	o.mu.Lock()
	o.slave = slave
	o.mu.Unlock()
	o.start(master)
}

// run makes sure that pump runs. mu is held.
func (o *output) run() {
	if o.src == nil || o.running || o.closed {
		return
	}
	o.running = true
	o.set.wg.Add(1)
	go o.pump()
}

// pump moves bytes until the output is closed, or done: then an attach runs it again.
func (o *output) pump() {
	defer o.set.wg.Done()
	o.mu.Lock()
	defer o.unlock()
	for !o.closed && !(o.srcEOF && o.snd.State() == stdio.SenderDone) {
		moved := !o.dry && o.pull()
		moved = !o.full && o.push() || moved
		if o.short() {
			moved = o.takeAcks() || moved
		}
		if !moved {
			o.wait()
		}
	}
	o.running, o.watch = false, false
	o.cond.Broadcast()
}

// pull reads the source into the ring, if there is room enough to make it worth a read. It tells whether anything happened. mu is held, as in all that follow.
func (o *output) pull() bool {
	if !o.wantsSource() {
		return false
	}
	if o.snd.State() == stdio.SenderDone {
		return o.discardSource()
	}
	bufs := o.snd.Space(o.spans[:0], o.want)
	if len(bufs) == 0 {
		o.starved = true
		return false
	}
	n, err := o.src.tryReadv(bufs)
	if n > 0 {
		o.snd.Filled(n)
		o.want, o.dry = nextRead(n, bufs)
	}
	if n >= smallPipe {
		o.src.enlarge()
	}
	return o.pulled(err)
}

// nextRead says how much to ask for after a read of n bytes into bufs, and whether the source is likely to be dry now: then it is waited for at once, which tries
// again anyway.
func nextRead(n int, bufs [][]byte) (want int, dry bool) {
	want = readSize
	if n < smallRead {
		want = smallRead
	}
	return want, n < size(bufs)
}

// size is the number of bytes in bufs.
func size(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

func (o *output) pulled(err error) bool {
	if err == errAgain {
		return false
	}
	if err != nil {
		o.sourceEnded(err)
	}
	return true
}

// discardSource reads on behind a stop: of a terminal, whose master must stay open. A pipe is closed instead, so that the process notices.
func (o *output) discardSource() bool {
	if !o.terminal {
		o.sourceEnded(io.EOF)
		return true
	}
	_, err := o.src.tryReadv([][]byte{o.recordIn[:]})
	return o.pulled(err)
}

// sourceEnded takes every error as the end. That of a terminal is EIO: no process has it open.
func (o *output) sourceEnded(err error) {
	if err != io.EOF && err != unix.EIO {
		o.set.log("cannot read process's output", o.name, err)
	}
	o.srcEOF = true
	o.snd.SourceEnded()
	if !o.terminal {
		o.dispose(o.src)
	}
	o.changed()
}

// wantsSource tells whether the source should be read: it has not ended, and a quarter of the ring is free, or it would degrade into tiny reads.
func (o *output) wantsSource() bool {
	return !o.srcEOF && !o.starved && (o.snd.State() == stdio.SenderDone || o.snd.Room()*4 >= o.snd.Cap() || o.snd.MayDrop())
}

// short tells whether acks are needed before the source can be read on. To read them earlier costs a system call each time, and for most that come, a packet.
func (o *output) short() bool { return o.ln != nil && o.snd.Room()*4 < o.snd.Cap() }

// push writes what is unsent. It tells whether anything was written.
func (o *output) push() bool {
	if o.ln == nil {
		return false
	}
	bufs := o.snd.Pending(o.spans[:0])
	if len(bufs) == 0 {
		return false
	}
	n, err := o.ln.tryWritev(bufs)
	if err != nil && err != errAgain {
		o.breakLink(err)
		return true
	}
	o.snd.Wrote(n)
	o.full = err == errAgain || n < size(bufs)
	return n > 0
}

// takeAcks reads the records that have come. It tells whether there were any.
func (o *output) takeAcks() bool {
	took := false
	for o.ln != nil {
		n, err := o.ln.tryReadv([][]byte{o.recordIn[:]})
		if err == errAgain {
			return took
		}
		took = true
		if err == nil {
			err = o.snd.Records(o.recordIn[:n])
		}
		o.afterRecords(err)
		if n < len(o.recordIn) {
			return took
		}
	}
	return took
}

// takeAllAcks reads until there is nothing more, as it must before a wait: of bytes and the end of file behind them, the poller tells once.
func (o *output) takeAllAcks() {
	for o.takeAcks() {
	}
}

// afterRecords does what the sender's new state asks for.
func (o *output) afterRecords(err error) {
	switch {
	case err != nil:
		o.breakLink(err)
	case o.snd.State() == stdio.SenderFlowing:
	case o.snd.State() == stdio.SenderBroken: // stop, detached
		o.breakLink(nil)
	default:
		o.dropLink()
	}
	o.starved = false
	o.wake()
	o.changed()
}

// breakLink forgets the connection: err is why, nil if the host asked for it.
func (o *output) breakLink(err error) {
	if err != nil {
		o.lost = o.gen
		o.set.log("data connection lost", o.name, err)
	}
	o.dropLink()
	o.snd.Broken()
	o.changed()
}

// wait blocks until there may be something to do: for room in the socket, for bytes of the source, or for acks, whichever comes first in this order.
func (o *output) wait() {
	ln := o.ln
	switch {
	case ln != nil && ln.buffered():
		o.waitWith(ln.flush)
	case ln != nil && o.snd.Unsent():
		o.waitWith(func() error { return ln.whenWritable(o.pushFunc) })
	case o.wantsSource():
		o.waitSource()
	case ln == nil || o.watching:
		o.beIdle()
		o.rest()
	default:
		o.waitWith(func() error { return ln.whenReadable(o.ackFunc) })
	}
	if o.idle {
		o.setIdle(false)
	}
}

func (o *output) waitWith(f func() error) {
	o.unlock()
	_ = f() // a link that is closed says so again when it is tried
	o.mu.Lock()
}

func (o *output) waitSource() {
	o.beIdle()
	src := o.src
	o.unlock()
	err := src.whenReadable(o.pullFunc)
	o.mu.Lock()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		src.unkickRead()
	}
}

// The functions called when a descriptor is ready; they return true when pump has more to do than to wait for that one.
func (o *output) pullReady() bool {
	o.dry = false
	if o.closed || !o.wantsSource() || o.ln != nil && o.snd.Unsent() {
		return true
	}
	if !o.pull() {
		o.snd.Trim()
		return o.starved
	}
	o.setIdle(false)
	return true
}

func (o *output) pushReady() bool {
	o.full = false
	return o.push() || o.ln == nil || !o.snd.Unsent()
}

func (o *output) acksReady() bool {
	o.takeAllAcks()
	return o.ln == nil || o.wantsSource()
}

// beIdle notes that pump waits for the source or an attach, and has watch take over if that lasts.
func (o *output) beIdle() {
	if !o.idle {
		o.setIdle(true)
	}
	if o.ln != nil && !o.watch && !o.timer.armed {
		o.idleAt = o.snd.Next()
		o.timer.start(watchDelay, o.beginWatch)
	}
}

func (o *output) setIdle(idle bool) {
	o.idle = idle
	if o.drain.running {
		o.changed()
	}
}

// wake has pump look at a new state, wherever it waits, if that concerns it: acks that came while it waits for the source do not.
func (o *output) wake() {
	if o.snd.State() == stdio.SenderDone || o.closed {
		o.kick()
	}
	o.cond.Broadcast()
}

// kick ends a wait for the source.
func (o *output) kick() {
	if o.src != nil {
		o.src.kickRead()
	}
}

// length gives what the host has received and whether that is all there will be.
func (o *output) length() (n uint64, drained bool) {
	return o.snd.Acked(), o.snd.EndAcked() || o.snd.Stopped() != protocol.StopNone
}
