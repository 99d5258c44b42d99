package streams

// Until Create is answered, a connection that breaks says nothing about the process. The guest may have rolled back since the control connection broke, and then dials
// anew, under the same tokens, when the request is repeated. So the tokens are expected again. It may as well have made the process; then Create's answer
// finds them expected still, and the streams are lost like any others.

// connectionLost reports a connection that broke without anyone asking for it. The stream's lock may be held.
func (s *Set) connectionLost(l LostStream) {
	if s.created.Load() {
		s.lost.put(l)
		return
	}
	s.crew.run(func() { s.expectAgain(l) })
}

func (s *Set) expectAgain(l LostStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.first[l.Stream]
	switch {
	case s.closed:
	case e == nil: // Created was faster
		s.lost.put(l)
	default:
		e.again = true
		s.waiting[l.Stream] = e
		s.hub.renew(e)
		s.wake()
	}
}

// Created says that Create was answered: from here on a broken connection is a loss.
func (s *Set) Created() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.created.Store(true)
	for name, e := range s.first {
		if s.waiting[name] == e && s.hub.withdraw(e) {
			delete(s.waiting, name)
			s.lost.put(LostStream{Stream: name, Generation: 1})
		}
	}
	s.first = nil
	s.wake()
}
