package streams

import (
	"context"
	"net"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Until Create or Attach is answered, an accepted connection says nothing about the operation: the guest may not have the accept record, or may have rolled back since
// the control connection broke, and then dials anew under the same token. So the token holds until the answer, and whatever comes under it takes the place of what came
// before, which may have broken or may just be silent. The guest may as well have succeeded with a connection that has broken since; then the answer finds the
// stream without one, and that is a loss like any other.

// unanswered is a stream of a Create or Attach without an answer.
type unanswered struct {
	*expectation
	generation uint32 // of what has arrived
}

// replace makes way for another connection under e's token.
func (s *Set) replace(ctx context.Context, e *expectation, st stream) error {
	s.mu.Lock()
	if u := s.unanswered[st.name()]; u == nil || u.expectation != e || s.waiting[st.name()] == e {
		s.mu.Unlock()
		return nil // nothing has arrived, or it has broken
	}
	s.expectAgain(e, st.name())
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	return st.retire(ctx)
}

// expectAgain notes that a stream has no connection, though it had one. mu is held.
func (s *Set) expectAgain(e *expectation, name pb.Stream) {
	e.again = true
	s.waiting[name] = e
}

// connectionLost reports that c broke without anyone asking for it. The stream's lock may be held.
func (s *Set) connectionLost(c net.Conn, l LostStream) {
	s.crew.run(func() { s.notice(c, l) })
}

func (s *Set) notice(c net.Conn, l LostStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch u := s.unanswered[l.Stream]; {
	case s.closed || s.conns[l.Stream] != c: // another has taken its place, or is about to
	case u != nil:
		s.expectAgain(u.expectation, l.Stream)
	default:
		s.lost.put(l)
	}
}

// Created says that Create was answered.
func (s *Set) Created() {
	for _, st := range s.streams {
		s.answered(st.name())
		if d, ok := st.(*direct); ok {
			d.begin()
		}
	}
}

// answered says that a broken connection of the stream is a loss from here on.
func (s *Set) answered(name pb.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.unanswered[name]
	if u == nil {
		return
	}
	delete(s.unanswered, name)
	if s.hub.withdraw(u.expectation) && s.waiting[name] == u.expectation {
		delete(s.waiting, name)
		s.lost.put(LostStream{Stream: name, Generation: u.generation})
	}
}
