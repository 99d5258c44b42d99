// Package repeat makes operations that carry a request id happen once (SPEC 4, "Repeating"): a repeat joins the first attempt while it is going on, and
// gets its result when it is over. An attempt belongs to no connection: it is cancelled when nobody waits for it any more, so a client that lost its
// connection and repeats in time finds it alive.
package repeat

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// ID is a request id.
type ID [16]byte

// ParseID reads a request's id.
func ParseID(b []byte) (ID, error) {
	if len(b) != len(ID{}) {
		return ID{}, failure.Field("request_id", "%d bytes, must have %d", len(b), len(ID{}))
	}
	return ID(b), nil
}

// Op is the kind of an operation that can be repeated.
type Op string

// The operations that carry a request id.
const (
	Create        Op = "create"
	Start         Op = "start"
	Kill          Op = "kill"
	Delete        Op = "delete"
	Pause         Op = "pause"
	Resume        Op = "resume"
	PrepareRootfs Op = "prepare"
	RemoveRootfs  Op = "remove"
)

// ends says that the operation's object is no more when it has succeeded, so that its result cannot live as long as that.
func (op Op) ends() bool { return op == Delete || op == RemoveRootfs }

// MaxKept bounds the results of Kill, Pause and Resume that are kept for one process: the oldest is forgotten, so a client that signals for ever does not fill the memory.
const MaxKept = 1024

// Key names an operation: its id, kind, and the process or root file system concerned.
type Key struct {
	ID     ID
	Op     Op
	Object string
}

// Func does the operation. Its context ends when nobody waits for it any more and when the Log closes. Progress reaches everybody who waits.
type Func func(ctx context.Context, progress func(*pb.Response)) (*pb.Response, error)

// Log remembers operations. Close must follow.
type Log struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	entries map[ID]*entry
	objects map[string]*object // results that live as long as their object
	deletes []ID               // the last deletes and removals, oldest first
}

// object lists the results kept for one process or root file system.
type object struct {
	once []ID // Create, Start and PrepareRootfs
	last []ID // what can be done any number of times, oldest first
}

// NewLog makes an empty Log.
func NewLog() *Log {
	ctx, cancel := context.WithCancel(context.Background())
	return &Log{ctx: ctx, cancel: cancel, entries: make(map[ID]*entry), objects: make(map[string]*object)}
}

// Close cancels what is going on and joins it. The error is the context's: then something goes on that cannot be cancelled.
func (l *Log) Close(ctx context.Context) error {
	l.cancel()
	joined := make(chan struct{})
	go func() {
		l.work.Wait()
		close(joined)
	}()
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot end all operations: %w", ctx.Err())
	}
}

// Do runs f once for the key, or joins or answers from an earlier Do with the same key. A failed or rolled-back attempt leaves no result: those who
// waited for it get its error, and the next Do tries again. The same id with another operation or object is INVALID_ARGUMENT. When ctx ends, Do returns
// its error, and f is cancelled if nobody else waits for it; but with the cause failure.ErrConnectionLost f goes on, for the repeat to join.
func (l *Log) Do(ctx context.Context, key Key, progress func(*pb.Response) error, f Func) (*pb.Response, error) {
	for {
		e, joined, err := l.enter(key, f)
		if err != nil {
			return nil, err
		}
		if !joined { // an attempt that everybody left is being rolled back, or was too far to be: wait which
			select {
			case <-e.done:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		resp, err := e.follow(ctx, progress)
		l.leave(e, errors.Is(context.Cause(ctx), failure.ErrConnectionLost))
		return resp, err
	}
}

// enter finds or begins the attempt. It is not joined when it has been abandoned.
func (l *Log) enter(key Key, f Func) (_ *entry, joined bool, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.entries[key.ID]
	switch {
	case !ok:
		e = l.begin(key, f)
	case e.key != key:
		return nil, false, failure.Field("request_id", "was used for %s %s", e.key.Op, e.key.Object)
	case e.abandoned && !e.over():
		return e, false, nil
	}
	e.parties++
	return e, true, nil
}

func (l *Log) begin(key Key, f Func) *entry {
	ctx, cancel := context.WithCancel(l.ctx)
	e := &entry{key: key, cancel: cancel, done: make(chan struct{}), news: make(chan struct{})}
	l.entries[key.ID] = e
	l.work.Go(func() {
		defer cancel()
		resp, err := f(ctx, e.report)
		l.finish(e, resp, err)
	})
	return e
}

// finish keeps or forgets the result, and releases everybody who waits.
func (l *Log) finish(e *entry, resp *pb.Response, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.resp, e.err = resp, err
	if err != nil {
		delete(l.entries, e.key.ID)
	} else {
		l.keep(e.key)
	}
	close(e.done)
}

func (l *Log) keep(key Key) {
	if key.Op.ends() {
		l.deletes = l.bound(append(l.deletes, key.ID), protocol.MaxRememberedDelete)
		return
	}
	o := l.objects[key.Object]
	if o == nil {
		o = new(object)
		l.objects[key.Object] = o
	}
	switch key.Op {
	case Create, Start:
		o.once = append(o.once, key.ID)
	default:
		o.last = l.bound(append(o.last, key.ID), MaxKept)
	}
}

// bound forgets the oldest of ids above limit.
func (l *Log) bound(ids []ID, limit int) []ID {
	if len(ids) <= limit {
		return ids
	}
	delete(l.entries, ids[0])
	return append(ids[:0], ids[1:]...)
}

// Forget drops the results of an object that is no more. Those of its Delete or removal stay.
func (l *Log) Forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.objects[name]
	if o == nil {
		return
	}
	for _, ids := range [][]ID{o.once, o.last} {
		for _, id := range ids {
			delete(l.entries, id)
		}
	}
	delete(l.objects, name)
}

// leave counts a party out, and cancels an attempt that nobody waits for any more, unless its connection was lost: then it has not said so.
func (l *Log) leave(e *entry, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.parties--
	if e.parties == 0 && !lost && !e.over() {
		e.abandoned = true
		e.cancel()
	}
}
