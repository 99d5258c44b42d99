//go:build linux

package nursery

import (
	"context"
	"time"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// start makes a nursery process and has it waited for.
func (n *Nursery) start() (*instance, error) {
	p, err := launch(n.exe, n.cfg.Rlimits)
	if err != nil {
		return nil, err
	}
	inst, err := newInstance(p, n.cfg.Waiter)
	if err != nil {
		killAndReap(p.pid)
		p.release()
		return nil, err
	}
	return inst, nil
}

// supervise keeps a nursery process until Close. It is the only one to settle a dead one.
func (n *Nursery) supervise(inst *instance) {
	defer close(n.done)
	var delay backoff
	for inst != nil {
		select {
		case <-inst.exited:
		case <-n.closing.Done():
			inst.condemn()
			<-inst.exited
		}
		n.unset(inst)
		n.bury(inst)
		if n.closing.Err() != nil {
			return
		}
		n.cfg.Logger.Warn("nursery died; making a new one", "pid", inst.pid, "status", inst.status)
		if inst.used {
			delay.reset() // it has worked
		}
		inst = n.restart(&delay)
	}
}

// bury settles a dead instance.
func (n *Nursery) bury(inst *instance) {
	for _, pid := range inst.settle() {
		n.cfg.Logger.Warn("killing a child that nobody knows", "pid", pid)
		if fd, err := pidfd.Open(pid); err == nil {
			n.discard(pid, fd)
		} else {
			killAndReap(pid)
		}
	}
}

// restart makes a new instance, if need be after several attempts. It gives nil when the Nursery is closing.
func (n *Nursery) restart(delay *backoff) *instance {
	for {
		if !delay.wait(n.closing) {
			return nil
		}
		inst, err := n.start()
		if err != nil {
			n.cfg.Logger.Error("cannot start nursery", "error", err)
			continue
		}
		n.set(inst)
		return inst
	}
}

func (n *Nursery) set(inst *instance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inst = inst
	close(n.changed)
	n.changed = make(chan struct{})
}

// unset takes an instance out of service.
func (n *Nursery) unset(inst *instance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inst == inst {
		n.inst = nil
	}
}

// current gives the instance in service. If there is none, it waits for one, at most for the bound.
func (n *Nursery) current(ctx context.Context) (*instance, error) {
	for {
		n.mu.Lock()
		inst, changed := n.inst, n.changed
		n.mu.Unlock()
		if inst != nil {
			return inst, nil
		}
		if err := n.await(ctx, changed); err != nil {
			return nil, err
		}
	}
}

func (n *Nursery) await(ctx context.Context, changed <-chan struct{}) error {
	timer := time.NewTimer(n.cfg.Bound)
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-timer.C:
		return ErrUnavailable
	case <-n.closing.Done():
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A backoff is a delay that doubles with each use, from nothing to two seconds.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// wait lets the delay pass. It reports false when ctx ends first.
func (b *backoff) wait(ctx context.Context) bool {
	const first, most = 10 * time.Millisecond, 2 * time.Second
	delay := b.next
	b.next = min(max(2*delay, first), most)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
