//go:build linux

package relay

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// stream is what an input and an output have in common: a place for one connection, its generation and owner.
type stream struct {
	set  *Set
	name pb.Stream

	// attaching is held (by a send) by the one Attach, Detach or Close that changes the connection.
	attaching chan struct{}

	mu      sync.Mutex
	cond    sync.Cond // something under mu changed that a goroutine of the stream may wait for
	gen     uint32
	owner   []byte
	ln      link   // nil: no connection
	lost    uint32 // generation of a connection that broke and was not yet reported; 0: none
	closed  bool
	running bool // the stream's goroutines run
	timer   lazyTimer
}

func (s *stream) init(set *Set, name pb.Stream, owner []byte) {
	s.set, s.name, s.owner = set, name, owner
	s.attaching = make(chan struct{}, 1)
	s.cond.L = &s.mu
	s.timer.wg = &set.wg
}

// unlock ends a section in which the connection may have broken, and reports it.
func (s *stream) unlock() {
	lost := s.lost
	s.lost = 0
	s.mu.Unlock()
	if lost != 0 && s.set.cfg.OnLost != nil {
		s.set.cfg.OnLost(s.name, lost)
	}
}

// rest waits for cond, unless a broken connection is still to be reported: then it does that, and the state may have changed meanwhile. mu is held.
func (s *stream) rest() {
	if s.lost == 0 {
		s.cond.Wait()
		return
	}
	s.unlock()
	s.mu.Lock()
}

// dropLink closes the connection. mu is held.
func (s *stream) dropLink() {
	if s.ln != nil {
		s.dispose(s.ln)
		s.ln = nil
	}
	s.cond.Broadcast()
}

// dispose closes c in a goroutine: Close waits until every call on the descriptor has returned, and those take mu, or are the caller's own.
func (s *stream) dispose(c io.Closer) {
	s.set.wg.Go(func() { _ = c.Close() })
}

// ownedByOther tells whether another client than owner has a live connection. mu is held.
func (s *stream) ownedByOther(owner []byte) bool { return s.ln != nil && !bytes.Equal(s.owner, owner) }

// lazyTimer calls a function once, some time after it was first asked to, however often it is asked in between. Its owner's lock is held for start and stop; the function
// runs without it.
type lazyTimer struct {
	wg    *sync.WaitGroup
	timer *time.Timer
	armed bool
}

// start makes f run after d unless a run is due already. f must call fired first, under the owner's lock.
func (t *lazyTimer) start(d time.Duration, f func()) {
	if t.armed {
		return
	}
	t.armed = true
	t.wg.Add(1)
	if t.timer == nil {
		t.timer = time.AfterFunc(d, f)
		return
	}
	t.timer.Reset(d)
}

// fired says that the function runs; it must call wg.Done at its end.
func (t *lazyTimer) fired() { t.armed = false }

// stop prevents a run that has not begun.
func (t *lazyTimer) stop() {
	if t.timer != nil && t.timer.Stop() && t.armed {
		t.armed = false
		t.wg.Done()
	}
}
