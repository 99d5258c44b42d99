package hostclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Wait waits until the process has exited and its output is delivered: all of it, or if another process holds it open, what came within
// DrainTimeout, which [ExitStatus.Outputs] tells. Any number of callers may wait, before, during and after the run; the process must be created.
//
// When the caller's Reader or Writer failed, the error is theirs and the status is set all the same; otherwise one of them is meaningful. A process that exited with another
// code than 0 is not an error here. A guest that breaks the protocol of the process's streams is protocol.ErrProtocol at once, whether the process has exited or not.
func (p *Process) Wait(ctx context.Context) (ExitStatus, error) {
	w, err := p.beginWait()
	if err != nil {
		return ExitStatus{}, operationError("wait for process "+p.id, err)
	}
	select {
	case <-w.done:
		return w.final, w.err
	case <-p.violated():
		return ExitStatus{}, operationError("wait for process "+p.id, p.stdio.lost())
	case <-ctx.Done():
		return ExitStatus{}, operationError("wait for process "+p.id, context.Cause(ctx))
	}
}

// violated is closed when the guest has broken the protocol of the process's streams; nil without streams.
func (p *Process) violated() <-chan struct{} {
	if p.stdio == nil {
		return nil
	}
	return p.stdio.violated
}

// WaitExit waits until the process has exited, whether its output is delivered or not.
func (p *Process) WaitExit(ctx context.Context) (ExitStatus, error) {
	w, err := p.beginWait()
	if err != nil {
		return ExitStatus{}, operationError("wait for process "+p.id, err)
	}
	select {
	case <-w.exited:
		return w.status, nil
	case <-w.done:
		select {
		case <-w.exited:
			return w.status, nil
		default:
			return ExitStatus{}, w.err
		}
	case <-ctx.Done():
		return ExitStatus{}, operationError("wait for process "+p.id, context.Cause(ctx))
	}
}

// waiting is what all waiters of a process share. One goroutine of the process takes the guest's answers, another one what this host sees of the output's end.
type waiting struct {
	exited chan struct{} // closed when status and exit are set
	status ExitStatus
	exit   *pb.Exited

	told    chan struct{} // closed when drained is set
	drained *pb.Drained   // the guest's last word

	once  sync.Once
	done  chan struct{} // closed when final and err are set
	final ExitStatus
	err   error
}

func newWaiting() *waiting {
	return &waiting{exited: make(chan struct{}), told: make(chan struct{}), done: make(chan struct{})}
}

// takeExited is the progress function of Wait, and of a Create that waits. A repeat may tell it again.
func (w *waiting) takeExited(r *pb.Response) error {
	e := r.GetExited()
	if e == nil {
		return errUnexpected
	}
	w.setExited(e)
	return nil
}

func (w *waiting) setExited(e *pb.Exited) {
	select {
	case <-w.exited:
	default:
		w.status, w.exit = exitStatus(e), e
		close(w.exited)
	}
}

// takeDrained is the result function of the same.
func (w *waiting) takeDrained(r *pb.Response) error {
	d := r.GetDrained()
	if d == nil || d.GetExited() == nil {
		return errUnexpected
	}
	select {
	case <-w.told: // by a repeat
	default:
		w.drained = d
		close(w.told)
	}
	w.setExited(d.GetExited())
	return nil
}

// conclude ends the wait, if it has not ended yet.
func (w *waiting) conclude(final ExitStatus, err error) {
	w.once.Do(func() {
		w.final, w.err = final, err
		close(w.done)
	})
}

func (w *waiting) fail(err error) { w.conclude(ExitStatus{}, err) }

func (p *Process) setWaiting(w *waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = w
}

// beginWait gives what the process's waiters share, and begins to wait if nobody has.
func (p *Process) beginWait() (*waiting, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.waiting != nil:
		return p.waiting, nil
	case p.state == stateDeleted:
		return nil, errDeleted
	case p.state != stateCreated && p.state != stateStarted:
		return nil, precondition("the process is not created")
	case p.released:
		return nil, context.Cause(p.life)
	}
	w := newWaiting()
	p.waiting = w
	p.wg.Go(func() { p.finishWaiting(w, p.performWait(w)) })
	p.wg.Go(func() { p.seeEnd(w) })
	return w, nil
}

// waitTurn is how long a wait may take that has no slot of its own while others are to have their turn.
const waitTurn = 500 * time.Millisecond

// errTurnOver ends a turn.
var errTurnOver = errors.New("the wait's turn is over")

// performWait asks the guest to tell the exit and the end of the output. While the slots for such operations are taken, the watch tells when asking is of use. Those
// who have the slots may never be done, so the exited take turns then: in its turn a wait learns what there is to learn, and only one whose output is
// held up needs another.
func (p *Process) performWait(w *waiting) error {
	if release, ok := p.client.tryLongSlot(); ok {
		defer release()
		return p.askToWait(p.life, w)
	}
	p.client.startWatching(true)
	select {
	case <-p.exitSeen:
	case <-p.life.Done():
		return context.Cause(p.life)
	}
	for {
		if err := p.waitInTurn(w); !errors.Is(err, errTurnOver) {
			return err
		}
	}
}

// waitInTurn asks with the next slot that is free.
func (p *Process) waitInTurn(w *waiting) error {
	select {
	case p.client.long <- struct{}{}:
		defer func() { <-p.client.long }()
		return p.askToWait(p.life, w)
	case p.client.turns <- struct{}{}:
		defer func() { <-p.client.turns }()
		ctx, cancel := context.WithTimeoutCause(p.life, waitTurn, errTurnOver)
		defer cancel()
		return p.askToWait(ctx, w)
	case <-p.life.Done():
		return context.Cause(p.life)
	case <-p.client.life.Done():
		return context.Cause(p.client.life)
	}
}

func (p *Process) askToWait(ctx context.Context, w *waiting) error {
	return p.do(ctx, operation{
		what:     "wait for process " + p.id,
		request:  &pb.Request{Op: &pb.Request_Wait{Wait: &pb.Wait{Id: p.id, DrainTimeoutMs: drainMilliseconds(p.cfg.DrainTimeout)}}},
		repeat:   true,
		progress: w.takeExited,
		result:   w.takeDrained,
	})
}

// finishWaiting waits, after the guest's last word or its failure err, until the host has delivered the output, and wakes the waiters.
func (p *Process) finishWaiting(w *waiting, err error) {
	if err != nil {
		w.fail(err)
		return
	}
	p.deliver(w, w.drained)
}

// seeEnd wakes the waiters when the process has exited and this host has delivered the end of all its output. That the guest knows the latter, and says so, takes a round trip more.
func (p *Process) seeEnd(w *waiting) {
	if p.stdio == nil || !p.stdio.whole {
		return
	}
	for _, news := range []<-chan struct{}{w.exited, p.stdio.set.Ended()} {
		select {
		case <-news:
		case <-w.told:
			return
		case <-w.done:
			return
		}
	}
	select {
	case <-w.told: // before the end came: that may not be the end which the guest means
	default:
		p.deliver(w, &pb.Drained{Exited: w.exit, Outputs: p.stdio.set.Outputs()})
	}
}

// deliver waits until as much is delivered as drained says.
func (p *Process) deliver(w *waiting, drained *pb.Drained) {
	var err error
	if p.stdio != nil {
		if err = p.stdio.finish(p.life, drained.GetOutputs()); err != nil {
			err = fmt.Errorf("process %s: %w", p.id, err)
		}
	}
	w.conclude(drainedStatus(drained), err)
}

// knownExit gives the exit status if it is known, without waiting.
func (p *Process) knownExit() (ExitStatus, error) {
	p.mu.Lock()
	w := p.waiting
	p.mu.Unlock()
	if w != nil {
		select {
		case <-w.exited:
			return w.status, nil
		default:
		}
	}
	return ExitStatus{}, precondition("the process has not exited")
}
