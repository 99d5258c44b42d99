package hostclient

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Event is something that happened in the guest: [ProcessChanged], [Synced], [StreamLost], [Drained], [Deleted] or [OutOfMemory].
type Event interface{ event() }

// ProcessChanged says what a process is now: it was created, started, paused, resumed, exited, or attached to.
type ProcessChanged struct{ ProcessInfo }

// Synced comes when every process that exists has been told.
type Synced struct{}

// StreamLost says that the connection of a process's stream broke.
type StreamLost struct {
	ID     string
	Stream Stream
}

// Drained says that all output of an exited process was delivered, or that the agent's bound for it ran out.
type Drained struct {
	ID     string
	Status ExitStatus
}

// Deleted says that a process is no more.
type Deleted struct{ ID string }

// OutOfMemory says that the kernel killed something in a container for want of memory.
type OutOfMemory struct{ Container string }

func (ProcessChanged) event() {}
func (Synced) event()         {}
func (StreamLost) event()     {}
func (Drained) event()        {}
func (Deleted) event()        {}
func (OutOfMemory) event()    {}

// Watch gives the guest's events until the loop is left or ctx ends: first a [ProcessChanged] for every process that exists, then [Synced], then events as they
// happen. After a lost connection, and when the loop was too slow for the agent to keep its events, it begins again from the start on its own, so
// no state is missed, only intermediate ones. The last pair has the error that ended it, which is ctx's cause when ctx ended.
func (c *Client) Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		release, err := c.takeLongSlot(ctx)
		if err != nil {
			yield(nil, operationError("watch the guest", err))
			return
		}
		defer release()
		err = c.watch(ctx, new(pb.Watch), nil, func(e *pb.Event) error {
			if event := c.event(e); event != nil && !yield(event, nil) {
				return errStopWatch
			}
			return nil
		})
		if !errors.Is(err, errStopWatch) {
			yield(nil, err)
		}
	}
}

var errStopWatch = errors.New("the watcher wants no more")

func (c *Client) event(e *pb.Event) Event {
	switch e := e.What.(type) {
	case *pb.Event_Process:
		return ProcessChanged{c.processInfo(e.Process)}
	case *pb.Event_Synced:
		return Synced{}
	case *pb.Event_StreamLost:
		return StreamLost{ID: e.StreamLost.GetId(), Stream: Stream(e.StreamLost.GetStream())}
	case *pb.Event_Drained:
		return Drained{ID: e.Drained.GetId(), Status: drainedStatus(e.Drained.GetDrained())}
	case *pb.Event_Deleted:
		return Deleted{ID: e.Deleted.GetId()}
	case *pb.Event_Oom:
		return OutOfMemory{Container: e.Oom.GetId()}
	}
	return nil // added after this version
}

// watch calls handle for each event until it fails, or ctx ends. begin, if not nil, is called before the first event and before each beginning from
// the start.
func (c *Client) watch(ctx context.Context, request *pb.Watch, begin func(), handle func(*pb.Event) error) error {
	for {
		err := c.call(ctx, operation{
			what:     "watch the guest",
			request:  &pb.Request{Op: &pb.Request_Watch{Watch: request}},
			repeat:   true,
			sending:  begin,
			progress: func(r *pb.Response) error { return handleEvent(r, handle) },
			result:   func(*pb.Response) error { return errUnexpected },
		})
		if !errors.Is(err, errdefs.ErrResourceExhausted) {
			return err
		}
	}
}

func handleEvent(r *pb.Response, handle func(*pb.Event) error) error {
	e := r.GetEvent()
	if e == nil {
		return errUnexpected
	}
	return handle(e)
}

// takeLongSlot takes one of the slots for operations that last; release gives it back.
func (c *Client) takeLongSlot(ctx context.Context) (release func(), err error) {
	select {
	case c.long <- struct{}{}:
		return func() { <-c.long }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.life.Done():
		return nil, context.Cause(c.life)
	}
}

// rewatchDelay is waited after a watch that failed for a reason other than the connection.
const rewatchDelay = time.Second

// watching is the client's own watch, under Client.mu.
type watching struct {
	began bool
	ends  bool                    // it is to tell of the ends of processes, too
	renew context.CancelCauseFunc // begins it anew; nil before it has begun
}

// startWatching has the client's processes told of lost streams, and with ends also of their ends, which hardly anybody needs: a wait of its own tells, and every event costs the guest
// and its processes time.
func (c *Client) startWatching(ends bool) {
	c.mu.Lock()
	w := &c.watching
	began := w.began
	w.began = true
	if ends && !w.ends {
		w.ends = true
		if w.renew != nil {
			w.renew(errWatchMore)
		}
	}
	c.mu.Unlock()
	if !began {
		c.spawn(c.watchProcesses)
	}
}

// errWatchMore ends a watch that tells too little.
var errWatchMore = errors.New("the watch is to tell more")

// nextWatch says what to ask for. The context ends when that has changed, and with cancel.
func (c *Client) nextWatch() (ctx context.Context, cancel context.CancelCauseFunc, request *pb.Watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel = context.WithCancelCause(c.life)
	c.watching.renew = cancel
	return ctx, cancel, &pb.Watch{LossesOnly: !c.watching.ends}
}

// watchProcesses hands events to the processes of this client for as long as it lives.
func (c *Client) watchProcesses() {
	for c.life.Err() == nil {
		ctx, cancel, request := c.nextWatch()
		err := c.watchOnce(ctx, request)
		cancel(nil)
		if c.life.Err() != nil || errors.Is(err, errWatchMore) {
			continue
		}
		c.cfg.Logger.Warn("the watch ended", "err", err)
		_ = pause(c.life, rewatchDelay)
	}
}

func (c *Client) watchOnce(ctx context.Context, request *pb.Watch) error {
	var told map[string]bool // which of this client's processes exist, until all are told
	begin := func() { told = make(map[string]bool) }
	return c.watch(ctx, request, begin, func(e *pb.Event) error {
		if e.GetSynced() != nil {
			c.missing(told)
			told = nil
			return nil
		}
		if id := e.GetProcess().GetId(); told != nil && len(c.processesOf(id)) > 0 {
			told[id] = true
		}
		c.dispatch(e)
		return nil
	})
}

// dispatch tells the processes that an event is about. There are at most a few with one id.
func (c *Client) dispatch(e *pb.Event) {
	switch e := e.What.(type) {
	case *pb.Event_Process:
		for _, p := range c.processesOf(e.Process.GetId()) {
			p.observe(e.Process)
		}
	case *pb.Event_Deleted:
		for _, p := range c.processesOf(e.Deleted.GetId()) {
			p.ended()
		}
	case *pb.Event_StreamLost:
		for _, p := range c.processesOf(e.StreamLost.GetId()) {
			p.streamLost(e.StreamLost.GetStream(), e.StreamLost.GetGeneration())
		}
	}
}

// missing tells the processes that the guest did not name that there is something to learn.
func (c *Client) missing(told map[string]bool) {
	for _, p := range c.allProcesses() {
		if !told[p.id] {
			p.ended()
		}
	}
}
