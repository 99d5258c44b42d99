//go:build linux

package relay

import (
	"context"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// drainClock sums up the time in which an output has nothing left to deliver and a client to deliver it to, and yet is not at its end: somebody holds the write end. It
// begins when the process exits.
type drainClock struct {
	running bool
	total   time.Duration
	since   time.Time // zero: not counting now
}

func (c *drainClock) count(counting bool, now time.Time) {
	switch {
	case !c.running:
	case counting && c.since.IsZero():
		c.since = now
	case !counting && !c.since.IsZero():
		c.total += now.Sub(c.since)
		c.since = time.Time{}
	}
}

// left gives how much of bound remains, and whether it runs down now. There is something left until it has begun to.
func (c *drainClock) left(bound time.Duration, now time.Time) (time.Duration, bool) {
	switch {
	case !c.since.IsZero():
		return bound - c.total - now.Sub(c.since), true
	case c.total > 0:
		return bound - c.total, false
	}
	return bound + 1, false
}

// changed tells the clock, and who waits for the drain, about a new state. mu is held.
func (o *output) changed() {
	if o.drain.running {
		o.drain.count(o.quiet(), time.Now())
	}
	o.set.changes.notify()
}

// quiet tells whether all that was read is delivered to a connected client, and the source may still bring more.
func (o *output) quiet() bool {
	return o.ln != nil && o.idle && !o.srcEOF && o.snd.Unacked() == 0
}

func (o *output) processExited() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drain.running = true
	o.changed()
}

// WaitDrained waits until every output is delivered or given up. The bound is compared with the time, from ProcessExited on, in which a stream had a connected
// client and nothing left to deliver, and somebody still held its write end. A negative bound is no bound. The error is the context's.
func (s *Set) WaitDrained(ctx context.Context, bound time.Duration) ([]*pb.Output, error) {
	defer s.changes.begin()()
	for {
		changed := s.changes.next()
		wait, settled := s.drainWait(bound)
		if settled {
			return s.outputs(), nil
		}
		if err := sleep(ctx, changed, wait); err != nil {
			return nil, err
		}
	}
}

// sleep waits for a change, for d if that is not negative, and for ctx, whose error it gives.
func sleep(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	var expired <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-changed:
	case <-expired:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// drainWait tells whether every output is drained or beyond the bound; if not, how long to wait for the bound, negative if only a change matters.
func (s *Set) drainWait(bound time.Duration) (wait time.Duration, settled bool) {
	wait, settled = -1, true
	for _, o := range s.outs {
		if o == nil {
			continue
		}
		left, counting, drained := o.drainLeft(bound)
		if drained || bound >= 0 && left <= 0 {
			continue
		}
		settled = false
		if bound >= 0 && counting && (wait < 0 || left < wait) {
			wait = left
		}
	}
	return wait, settled
}

func (o *output) drainLeft(bound time.Duration) (left time.Duration, counting, drained bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, drained := o.length(); drained || o.closed {
		return 0, false, true
	}
	left, counting = o.drain.left(bound, time.Now())
	return left, counting, false
}

// outputs describes every output as it is now.
func (s *Set) outputs() []*pb.Output {
	var res []*pb.Output
	for _, o := range s.outs {
		if o != nil {
			res = append(res, o.describe())
		}
	}
	return res
}

func (o *output) describe() *pb.Output {
	o.mu.Lock()
	out := &pb.Output{Stream: o.name, Stopped: o.snd.Stopped() != 0}
	out.Length, out.Drained = o.length()
	id := fileID{}
	if !out.Drained && o.src != nil {
		id = o.writeEnd()
	}
	o.mu.Unlock()
	if id.known() {
		out.Holders = findHolders(procDir, id)
	}
	return out
}

// notifier wakes all who wait for a change, and costs next to nothing while nobody does.
type notifier struct {
	mu      sync.Mutex
	waiters int
	ch      chan struct{}
}

// begin says that somebody is about to wait; the function that it gives ends that.
func (n *notifier) begin() (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiters++
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.waiters--
	}
}

// next gives a channel that is closed by the next notify. What changed before the call is to be looked at after it.
func (n *notifier) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ch
}

func (n *notifier) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiters > 0 {
		close(n.ch)
		n.ch = make(chan struct{})
	}
}
