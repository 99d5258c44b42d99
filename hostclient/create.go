package hostclient

import (
	"context"
	"errors"
	"sync"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Create makes the process in the guest, without running it, and connects its streams. It may be called once. If it failed since the connection broke
// for good or ctx ended, the guest may have the process; Delete is right in every case.
func (p *Process) Create(ctx context.Context) error {
	what := "create process " + p.id
	unlock, err := p.lock(ctx)
	if err != nil {
		return operationError(what, err)
	}
	defer unlock()
	create, err := p.prepare()
	if err != nil {
		return operationError(what, err)
	}
	var created *pb.Created
	err = p.performCreate(ctx, p.createOperation(what, create, expect((*pb.Response).GetCreated, &created)))
	return p.created(err, stateCreated)
}

// Start runs the created process. A start that fails leaves no process in the guest.
func (p *Process) Start(ctx context.Context) error {
	what := "start process " + p.id
	unlock, err := p.lock(ctx)
	if err != nil {
		return operationError(what, err)
	}
	defer unlock()
	if p.currentState() == stateStarted {
		return operationError(what, precondition("it is started already"))
	}
	var started *pb.Started
	err = p.do(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_Start{Start: &pb.Start{RequestId: p.startID[:], Id: p.id}}},
		repeat:  true,
		result:  expect((*pb.Response).GetStarted, &started),
	})
	if err == nil {
		p.setStarted(started)
	}
	return err
}

// Launch is Create and Start in one round trip, and lets the guest send the exit on its own. A failed one leaves no process in the guest, with the exceptions of Create.
func (p *Process) Launch(ctx context.Context) error {
	what := "start process " + p.id
	unlock, err := p.lock(ctx)
	if err != nil {
		return operationError(what, err)
	}
	defer unlock()
	create, err := p.prepare()
	if err != nil {
		return operationError(what, err)
	}
	create.Start = true
	if release, ok := p.client.tryLongSlot(); ok {
		return p.launchAndWait(ctx, what, create, release)
	}
	var started *pb.Started
	err = p.performCreate(ctx, p.createOperation(what, create, expect((*pb.Response).GetStarted, &started)))
	if err = p.created(err, stateStarted); err == nil {
		p.setStarted(started)
	}
	return err
}

// launchAndWait sends one request for the whole life of the process. Its answers arrive in the goroutine that waits for the exit; this one goes on when the process
// is started. It gives the long slot back by release.
func (p *Process) launchAndWait(ctx context.Context, what string, create *pb.Create, release func()) error {
	create.Wait = true
	life, cancel := context.WithCancelCause(p.life)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stop()

	w := newWaiting()
	started := make(chan struct{})
	var once sync.Once
	op := p.createOperation(what, create, w.takeDrained)
	op.progress = func(r *pb.Response) error {
		s := r.GetStarted()
		if s == nil {
			return w.takeExited(r)
		}
		var late error
		once.Do(func() {
			if !stop() { // from here on the caller's context is not the process's, but it has ended before
				late = context.Cause(ctx)
				return
			}
			p.setStarted(s)
			_ = p.created(nil, stateStarted)
			close(started)
		})
		return late
	}
	op.done = started // it may be deleted from here on, and would be made again
	p.setWaiting(w)
	ok := p.spawn(func() {
		defer cancel(nil)
		defer release()
		err := p.performCreate(life, op)
		if _, lost := errors.AsType[*lostError](err); lost && !op.repeats() && !errors.Is(err, protocol.ErrProtocol) {
			err = p.askToWait(p.life, w)
		}
		p.finishWaiting(w, err)
	})
	if !ok {
		release()
		w.fail(context.Cause(p.life))
	}
	p.spawn(func() { p.seeEnd(w) })
	select {
	case <-started:
		return nil
	case <-w.done:
	}
	select {
	case <-started: // both happened: it has run already
		return nil
	default:
		return p.created(w.err, stateStarted)
	}
}

func (c *Client) tryLongSlot() (release func(), ok bool) {
	select {
	case c.long <- struct{}{}:
		return func() { <-c.long }, true
	default:
		return nil, false
	}
}

// prepare does what comes before the request: it listens, and expects the streams.
func (p *Process) prepare() (*pb.Create, error) {
	if p.currentState() != stateNew {
		return nil, precondition("it was created already")
	}
	create, err := p.cfg.request(p.createID)
	if err != nil {
		return nil, err
	}
	p.setState(stateFailed) // until the request is sent
	if p.stdio, err = p.openStdio(); err != nil {
		return nil, err
	}
	if err := p.client.track(p); err != nil {
		return nil, err
	}
	if p.stdio != nil {
		create.Stdio = p.stdio.set.Stdio()
	}
	return create, nil
}

func (p *Process) createOperation(what string, create *pb.Create, result func(*pb.Response) error) operation {
	return operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_Create{Create: create}},
		repeat:  true,
		guest:   &p.guest,
		sending: func() {
			if p.currentState() == stateFailed {
				p.setState(stateUnknown)
			}
		},
		result: result,
	}
}

// performCreate performs a Create and sees to it that the guest connects the streams within their bound; if it doesn't, the Create is cancelled.
func (p *Process) performCreate(ctx context.Context, op operation) error {
	if p.stdio == nil {
		op.progress = skipDialing(op.progress, func() {})
		return p.client.call(ctx, op)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var arrival sync.WaitGroup
	defer arrival.Wait()
	defer cancel(nil)
	var once sync.Once
	arrived := make(chan struct{})
	expectStreams := func() {
		once.Do(func() {
			p.stdio.set.Dialing()
			arrival.Go(func() {
				if err := p.stdio.set.Connected(ctx); err != nil {
					cancel(err)
					return
				}
				close(arrived)
			})
		})
	}
	// What comes after "dialing" is handled when the streams are there: the guest may be faster than this side's own bookkeeping of them.
	afterArrival := func(handle func(*pb.Response) error) func(*pb.Response) error {
		return func(r *pb.Response) error {
			expectStreams() // the answer to a repeat does without "dialing"
			select {
			case <-arrived:
				return handle(r)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	if op.progress != nil {
		op.progress = afterArrival(op.progress)
	}
	op.progress = skipDialing(op.progress, expectStreams)
	op.result = afterArrival(op.result)
	return p.client.call(ctx, op)
}

// skipDialing calls dialing where the guest says that it dials, and progress for everything else.
func skipDialing(progress func(*pb.Response) error, dialing func()) func(*pb.Response) error {
	return func(r *pb.Response) error {
		if r.GetDialing() != nil {
			dialing()
			return nil
		}
		if progress == nil {
			return errUnexpected
		}
		return progress(r)
	}
}

// created takes the outcome of a Create.
func (p *Process) created(err error, success processState) error {
	switch {
	case err == nil:
		p.setState(success)
		if p.stdio != nil {
			p.stdio.set.Created()
			p.client.startWatching(false)
			p.spawn(p.keepAttached)
		}
	case errors.As(err, new(*protocol.StatusError)):
		p.setState(stateFailed) // nothing is left in the guest (SPEC 4.1)
	}
	return err
}
