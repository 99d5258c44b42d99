package vsockdev

import (
	"io"
	"sync"
)

// kickFile is the eventfd through which the guest says that it has put chains into a ring. Read waits for a
// notification; Close ends a waiting Read; Write of an eventfd value notifies ourselves.
type kickFile interface {
	io.ReadWriteCloser
}

// signaller is the eventfd through which the guest is interrupted.
type signaller interface {
	signal()
	close()
}

// eventfdOne is the value 1 as an eventfd takes it (eventfd(2)), on a little-endian machine.
var eventfdOne = [8]byte{1}

// queue is a virtqueue with its worker. What the front end sets up it sets up under mu.
type queue struct {
	dev *Device

	mu    sync.Mutex
	mem   *memory
	ring  *ring // nil while the queue is stopped
	call  signaller
	kick  kickFile
	chain chain // of the packet in hand

	done chan struct{} // closed when the worker has ended; nil without one
}

// start lets a worker call process now and whenever the guest notifies. It takes over kick.
func (q *queue) start(r *ring, m *memory, kick kickFile, process func()) {
	q.mu.Lock()
	q.ring, q.mem, q.kick = r, m, kick
	q.mu.Unlock()
	q.done = make(chan struct{})
	go q.serve(kick, process, q.done)
}

// serve is the worker.
func (q *queue) serve(kick io.Reader, process func(), done chan<- struct{}) {
	defer close(done)
	var event [8]byte
	for {
		process()
		if _, err := kick.Read(event[:]); err != nil {
			return
		}
		q.dev.stats.kicks.Add(1)
	}
}

// stop ends the worker, if there is one, and returns which available entry is next. Nothing touches the ring afterwards.
func (q *queue) stop() (base uint16, running bool) {
	if q.done == nil {
		return 0, false
	}
	q.kick.Close()
	<-q.done
	q.done = nil
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ring != nil {
		base = q.ring.lastAvail
	}
	q.ring, q.mem, q.kick = nil, nil, nil
	return base, true
}

// setCall replaces the way to interrupt the guest; s may be nil.
func (q *queue) setCall(s signaller) {
	q.mu.Lock()
	old := q.call
	q.call = s
	q.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// flush shows the guest what was put back, and interrupts it. The caller holds mu.
func (q *queue) flush() {
	if q.ring.publish() && q.call != nil {
		q.dev.stats.signals.Add(1)
		q.call.signal()
	}
}

// nextChain takes the next usable chain into q.chain and reports false when there is none. Chains that are not usable,
// which includes those of less than size bytes, go back at once. The caller holds mu. A guest that offers nothing but bad
// ones, without end, must not keep it for ever: after a ring full the worker is left to go on.
func (q *queue) nextChain(write bool, size int) bool {
	for range q.ring.num {
		ok, err := q.ring.pending()
		if err != nil {
			q.breakRing(err)
			return false
		}
		if !ok {
			return false
		}
		err = q.ring.take(q.mem, write, &q.chain)
		if err == nil && q.chain.size >= size {
			return true
		}
		q.dev.stats.badChains.Add(1)
		if err != errBadHead {
			q.ring.put(q.chain.head, 0)
		}
	}
	q.goOn()
	return false
}

// goOn has the worker process the ring again. In between the queue can be stopped.
func (q *queue) goOn() {
	// It fails when the file is closed, and then there is nothing to go on with.
	_, _ = q.kick.Write(eventfdOne[:])
}

// breakRing stops using a ring that makes no sense. The guest's driver can set it up again.
func (q *queue) breakRing(err error) {
	q.dev.log.Warn("vsock ring stopped", "error", err)
	q.ring = nil
}
