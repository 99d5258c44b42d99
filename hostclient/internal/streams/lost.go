package streams

import "sync"

// lossQueue holds the newest loss of each stream for whoever cares. Its channel is never blocked on by the sender.
type lossQueue struct {
	ch     chan LostStream
	mu     sync.Mutex
	closed bool
}

func (q *lossQueue) init() { q.ch = make(chan LostStream, streamCount) }

// put replaces an older loss of the same stream.
func (q *lossQueue) put(l LostStream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	for range len(q.ch) {
		select {
		case old := <-q.ch:
			if old.Stream != l.Stream {
				q.ch <- old
			}
		default: // the reader was faster
		}
	}
	q.ch <- l
}

func (q *lossQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.ch)
	}
}
