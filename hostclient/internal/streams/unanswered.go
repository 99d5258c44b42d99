package streams

import "github.com/bellhop-vm/bellhop/protocol/pb"

// Until Create or Attach is answered, a connection that breaks says nothing about the operation: the guest may not have read the accept record, or may have rolled back since
// the control connection broke, and then dials anew under the same token. So the token is expected again. The guest may as well have succeeded; then the answer
// finds the token expected still, and the connection is lost like any other.

// unanswered is a stream of a Create or Attach without an answer.
type unanswered struct {
	*expectation
	broken LostStream // the connection that broke last; the token is expected again if it is set
}

// connectionLost reports a connection that broke without anyone asking for it. The stream's lock may be held.
func (s *Set) connectionLost(l LostStream) {
	s.crew.run(func() { s.expectAgain(l) })
}

func (s *Set) expectAgain(l LostStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.unanswered[l.Stream]
	switch {
	case s.closed:
	case u == nil || s.waiting[l.Stream] != nil: // it was answered, or given up for another Attach
		s.lost.put(l)
	default:
		u.broken, u.again = l, true
		s.waiting[l.Stream] = u.expectation
		s.hub.renew(u.expectation)
	}
}

// Created says that Create was answered.
func (s *Set) Created() {
	for _, st := range s.streams {
		s.answered(st.name())
	}
}

// answered says that a broken connection of the stream is a loss from here on.
func (s *Set) answered(name pb.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.unanswered[name]
	delete(s.unanswered, name)
	if u != nil && s.waiting[name] == u.expectation && s.hub.withdraw(u.expectation) {
		delete(s.waiting, name)
		s.lost.put(u.broken)
	}
}
