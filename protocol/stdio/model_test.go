package stdio

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
)

// world is a Sender and a Receiver with a connection between them that may break, a source and a sink; each step does one thing that could happen next.
type world struct {
	t   *testing.T
	rng *rand.Rand

	snd  *Sender
	rcv  *Receiver
	pool *Pool
	ring int

	source  []byte // all that the source will give
	given   int    // bytes of it that the sender has
	sink    []byte // what was delivered
	dropped bool   // the policy may lose bytes

	up       bool
	toRcv    []byte // in flight
	toSnd    []byte
	pending  [][]byte // parsed and not delivered
	breaks   int
	attaches int
}

func newWorld(t *testing.T, seed uint64, ring int, drop bool) *world {
	rng := rand.New(rand.NewPCG(seed, 77))
	w := &world{t: t, rng: rng, ring: ring, dropped: drop, pool: NewPool(1<<20, nil, nil)}
	w.source = make([]byte, rng.IntN(200<<10))
	for i := range w.source {
		w.source[i] = byte(rng.Uint32())
	}
	w.snd = NewSender(NewRing(w.pool, ring, 0), 1+rng.IntN(64<<10), drop)
	w.rcv = NewReceiver(64<<10, 0)
	return w
}

func (w *world) step() {
	switch w.rng.IntN(12) {
	case 0, 1:
		w.readSource()
	case 2, 3:
		w.write()
	case 4, 5:
		w.parse()
	case 6, 7:
		w.deliver()
	case 8:
		w.record()
	case 9:
		w.takeRecords()
	case 10:
		if w.rng.IntN(4) == 0 {
			w.breakUp()
		}
		w.snd.Trim()
	case 11:
		w.attach()
	}
	w.check()
}

func (w *world) readSource() {
	if w.snd.Ended() {
		return
	}
	if w.given == len(w.source) {
		w.snd.SourceEnded()
		return
	}
	for _, span := range w.snd.Space(nil, 1+w.rng.IntN(10<<10)) {
		n := copy(span, w.source[w.given:])
		w.snd.Filled(n)
		w.given += n
		if n < len(span) {
			return
		}
	}
}

// write moves a part of what the sender has to the wire.
func (w *world) write() {
	all := bytes.Join(w.snd.Pending(nil), nil)
	if len(all) == 0 {
		return
	}
	n := 1 + w.rng.IntN(len(all))
	w.toRcv = append(w.toRcv, all[:n]...)
	w.snd.Wrote(n)
}

// parse takes bytes off the wire, in pieces that fall anywhere.
func (w *world) parse() {
	if len(w.toRcv) == 0 || !w.up {
		return
	}
	n := 1 + w.rng.IntN(len(w.toRcv))
	b := w.toRcv[:n]
	w.toRcv = w.toRcv[n:]
	for len(b) > 0 {
		data, k, err := w.rcv.Parse(b)
		if err != nil {
			w.t.Fatalf("Parse: %v", err)
		}
		if len(data) > 0 {
			w.pending = append(w.pending, bytes.Clone(data))
		}
		b = b[k:]
	}
}

func (w *world) deliver() {
	if len(w.pending) == 0 {
		return
	}
	n := 1 + w.rng.IntN(len(w.pending[0]))
	if !bytes.HasPrefix(w.source[len(w.sink):], w.pending[0][:n]) {
		w.t.Fatalf("at %d, %d bytes are delivered that are not the source's", len(w.sink), n)
	}
	w.sink = append(w.sink, w.pending[0][:n]...)
	w.rcv.Delivered(n)
	if w.pending[0] = w.pending[0][n:]; len(w.pending[0]) == 0 {
		w.pending = w.pending[1:]
	}
}

// record writes a part of what the receiver has to say; sometimes its input was dry.
func (w *world) record() {
	if !w.up {
		return
	}
	if w.rng.IntN(3) == 0 {
		w.rcv.Dry()
	}
	b := w.rcv.Pending()
	if len(b) == 0 {
		return
	}
	n := 1 + w.rng.IntN(len(b))
	w.toSnd = append(w.toSnd, b[:n]...)
	w.rcv.Wrote(n)
}

func (w *world) takeRecords() {
	if len(w.toSnd) == 0 || !w.up {
		return
	}
	n := 1 + w.rng.IntN(len(w.toSnd))
	if err := w.snd.Records(w.toSnd[:n]); err != nil {
		w.t.Fatalf("Records: %v", err)
	}
	w.toSnd = w.toSnd[n:]
	if w.snd.State() != SenderFlowing {
		w.breakUp()
	}
}

// breakUp loses what is in flight; the ends notice at different times, but do nothing in between that this would not show.
func (w *world) breakUp() {
	if !w.up {
		return
	}
	w.breaks++
	w.up = false
	w.toRcv, w.toSnd = nil, nil
	w.snd.Broken()
	w.rcv.Broken()
	if w.rng.IntN(2) == 0 { // what was parsed is still delivered, or not
		w.pending = nil
		w.rcv.Attached()
		w.rcv.Broken()
	}
}

func (w *world) attach() {
	if w.up || w.snd.State() == SenderDone {
		return
	}
	from := w.rcv.Offset()
	at, err := w.snd.BeginAttach(&from)
	if w.dropped {
		var re *RangeError
		if errors.As(err, &re) {
			w.skipTo(re.First)
			return
		}
	}
	if err != nil || at != from {
		w.t.Fatalf("BeginAttach(%d) = %d, %v", from, at, err)
	}
	if w.rng.IntN(4) == 0 {
		w.snd.AttachFailed()
		return
	}
	for range w.rng.IntN(3) { // the source goes on while the host is dialled
		w.readSource()
	}
	w.pending = nil
	w.snd.Attached()
	w.rcv.Attached()
	w.up = true
	w.attaches++
}

// skipTo is what a new client does that finds its offset dropped.
func (w *world) skipTo(offset uint64) {
	w.sink = append([]byte(nil), w.source[:offset]...)
	w.rcv = NewReceiver(64<<10, offset)
	w.pending = nil
}

// check holds what must be true at any time.
func (w *world) check() {
	if got := int(w.rcv.Offset()); got != len(w.sink) {
		w.t.Fatalf("Offset() = %d; want %d", got, len(w.sink))
	}
	if w.snd.Acked() > w.rcv.Offset() && !w.dropped {
		w.t.Fatalf("Acked() = %d; only %d are delivered", w.snd.Acked(), w.rcv.Offset())
	}
	if w.snd.Unacked() > w.ring || w.pool.Used() > int64(w.ring)+2*BlockSize {
		w.t.Fatalf("Unacked() = %d, memory %d; the ring is %d", w.snd.Unacked(), w.pool.Used(), w.ring)
	}
	if w.snd.EndAcked() && (len(w.sink) != len(w.source) || w.rcv.State() != ReceiverEnded) {
		w.t.Fatalf("the end is acked with %d of %d bytes delivered", len(w.sink), len(w.source))
	}
}

// TestModel drives both machines through random interleavings: nothing is lost, nothing doubled, memory is bounded, and it comes to its end.
func TestModel(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 5
	}
	breaks, attaches := 0, 0
	for _, drop := range []bool{false, true} {
		for _, ring := range []int{4 << 10, 20 << 10, 1 << 20} {
			for seed := range seeds {
				w := newWorld(t, seed, ring, drop)
				for range 3000 {
					w.step()
				}
				w.toTheEnd()
				breaks += w.breaks
				attaches += w.attaches
			}
		}
	}
	if breaks == 0 || attaches < breaks/2 {
		t.Errorf("%d breaks, %d attaches: the model does not reach them", breaks, attaches)
	}
}

// toTheEnd does whatever is possible until the sender is done.
func (w *world) toTheEnd() {
	for range 100000 {
		w.attach()
		w.readSource()
		w.write()
		w.parse()
		w.deliver()
		w.record()
		w.takeRecords()
		w.check()
		if w.snd.State() == SenderDone {
			if !w.snd.EndAcked() || w.pool.Used() != 0 {
				w.t.Fatalf("done with EndAcked() = %t, %d bytes of memory", w.snd.EndAcked(), w.pool.Used())
			}
			return
		}
	}
	w.t.Fatalf("it does not end: %d of %d bytes delivered", len(w.sink), len(w.source))
}

// TestStop checks each reason at random moments: the sender ends or breaks, and a later connection hears of it again.
func TestStop(t *testing.T) {
	for _, reason := range []protocol.StopReason{protocol.StopClosed, protocol.StopWriterFailed, protocol.StopDetached} {
		for seed := range uint64(200) {
			w := newWorld(t, seed, 20<<10, false)
			for range 50 + w.rng.IntN(1000) {
				w.step()
			}
			if w.rcv.State() == ReceiverEnded || reason == protocol.StopDetached && !w.up {
				continue
			}
			w.rcv.Stop(reason)
			w.stopped(reason)
		}
	}
}

func (w *world) stopped(reason protocol.StopReason) {
	w.pending = nil
	for range 10000 {
		if reason != protocol.StopDetached {
			w.attach()
		}
		w.write()
		w.drop()
		w.record()
		w.takeRecords()
		if reason == protocol.StopDetached && !w.up {
			if w.snd.State() != SenderBroken || w.snd.Stopped() != protocol.StopNone {
				w.t.Fatalf("after a detach: state %d, stop %d; want broken, none", w.snd.State(), w.snd.Stopped())
			}
			return
		}
		if w.snd.State() == SenderDone {
			if w.snd.Stopped() != reason || w.pool.Used() != 0 {
				w.t.Fatalf("done with stop %d, %d bytes of memory; want %d, 0", w.snd.Stopped(), w.pool.Used(), reason)
			}
			return
		}
	}
	w.t.Fatalf("the stop for reason %d does not arrive", reason)
}

// drop takes bytes off the wire, as a receiver that wants no more.
func (w *world) drop() {
	for b := w.toRcv; len(b) > 0 && w.up; {
		_, k, err := w.rcv.Parse(b)
		if err != nil {
			w.t.Fatalf("Parse: %v", err)
		}
		b = b[k:]
	}
	w.toRcv = nil
}
