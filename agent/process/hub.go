package process

import (
	"context"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Hub passes events to watchers, each with a bounded queue. Its lock orders what a watcher is told: process events are made under it, so a later one never
// shows an earlier state. It comes before the locks of processes, so nothing is published while one of those is held.
type Hub struct {
	table *Table

	mu       sync.Mutex
	watchers map[*Watcher]struct{}
}

func newHub(t *Table) *Hub { return &Hub{table: t, watchers: make(map[*Watcher]struct{})} }

// Watcher is one client's queue of events.
type Watcher struct {
	hub      *Hub
	losses   bool // it wants to know of nothing but lost streams, once it knows the state
	snapshot []*pb.Event
	events   chan *pb.Event // closed when the watcher fell behind
}

// maxWatchers bounds the watchers, each of which has a queue: a client needs one.
const maxWatchers = 64

// Watch begins to watch: first the state, then what happens, or with lossesOnly which streams are lost. Close must follow.
func (h *Hub) Watch(lossesOnly bool) (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) >= maxWatchers {
		return nil, failure.New(errdefs.ErrResourceExhausted, "%d watches are going on, no more are allowed", maxWatchers)
	}
	w := &Watcher{hub: h, losses: lossesOnly, events: make(chan *pb.Event, protocol.MaxWatchQueue)}
	for _, p := range h.table.All() {
		w.snapshot = append(w.snapshot, processEvent(p))
	}
	w.snapshot = append(w.snapshot, &pb.Event{What: &pb.Event_Synced{Synced: &pb.Synced{}}})
	h.watchers[w] = struct{}{}
	return w, nil
}

// Next gives the next event. RESOURCE_EXHAUSTED means that the watcher fell behind and must begin again.
func (w *Watcher) Next(ctx context.Context) (*pb.Event, error) {
	if len(w.snapshot) > 0 {
		e := w.snapshot[0]
		w.snapshot = w.snapshot[1:]
		return e, nil
	}
	select {
	case e, ok := <-w.events:
		if !ok {
			return nil, failure.New(errdefs.ErrResourceExhausted, "more than %d events behind: watch again", protocol.MaxWatchQueue)
		}
		return e, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the watch.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	delete(w.hub.watchers, w)
}

// changed tells the watchers how p is now.
func (h *Hub) changed(p *Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.anyWantsAll() || !p.known() {
		return
	}
	h.send(processEvent(p))
}

// anyWantsAll says whether an event that is no loss is worth making. h.mu is held.
func (h *Hub) anyWantsAll() bool {
	for w := range h.watchers {
		if !w.losses {
			return true
		}
	}
	return false
}

// StreamLost tells the watchers that a stream's connection broke.
func (h *Hub) StreamLost(id string, stream pb.Stream, generation uint32) {
	h.publish(&pb.Event{What: &pb.Event_StreamLost{StreamLost: &pb.StreamLost{Id: id, Stream: stream, Generation: generation}}})
}

// OOM tells the watchers that the kernel killed a process of a container for lack of memory.
func (h *Hub) OOM(id string) {
	h.publish(&pb.Event{What: &pb.Event_Oom{Oom: &pb.OOM{Id: id}}})
}

func (h *Hub) publish(e *pb.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.send(e)
}

// send queues e for everybody who wants it. Who has no room is dropped, and told so by its closed queue. h.mu is held.
func (h *Hub) send(e *pb.Event) {
	for w := range h.watchers {
		if w.losses && e.GetStreamLost() == nil {
			continue
		}
		select {
		case w.events <- e:
		default:
			delete(h.watchers, w)
			close(w.events)
		}
	}
}

// known says whether the process exists for clients.
func (p *Process) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdio != nil && p.state != deleted
}

func processEvent(p *Process) *pb.Event {
	return &pb.Event{What: &pb.Event_Process{Process: p.Info()}}
}

func drainedEvent(p *Process, outputs []*pb.Output) *pb.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &pb.Drained{Exited: p.exit, Outputs: outputs}
	return &pb.Event{What: &pb.Event_Drained{Drained: &pb.DrainedEvent{Id: p.cfg.ID, Drained: d}}}
}

func deletedEvent(p *Process) *pb.Event {
	return &pb.Event{What: &pb.Event_Deleted{Deleted: &pb.DeletedEvent{Id: p.cfg.ID}}}
}
