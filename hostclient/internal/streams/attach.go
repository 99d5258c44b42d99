package streams

import (
	"fmt"
	"slices"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// AttachRequest prepares to attach to the named streams, all if none is named, under the generation believed current (that of info where info names the stream:
// what List gave a new client). It drains and closes their old connections first, waits until a Write of the caller that is going on has returned, and expects the
// new connections with new tokens. The error says that the Set is closed.
func (s *Set) AttachRequest(takeOver bool, info []*pb.StreamInfo, which ...pb.Stream) ([]*pb.AttachStream, error) {
	for _, i := range info {
		s.Retry(i.Stream, i.Generation)
	}
	s.mu.Lock()
	s.bound = time.Time{}
	s.mu.Unlock()
	var res []*pb.AttachStream
	for _, st := range s.streams {
		if len(which) > 0 && !slices.Contains(which, st.name()) {
			continue
		}
		s.cancel(st.name())
		if err := st.retire(s.closing); err != nil {
			return nil, fmt.Errorf("cannot retire the connection of %s: %w", label(st.name()), err)
		}
		req := st.request(takeOver)
		e := s.expect(st)
		req.Port, req.Token = s.hub.port, e.token[:]
		res = append(res, req)
	}
	if s.isClosed() {
		s.cancelAll()
		return nil, errClosed
	}
	return res, nil
}

// cancel ends the expectation of an earlier AttachRequest.
func (s *Set) cancel(name pb.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.unanswered[name]; u != nil {
		s.hub.withdraw(u.expectation)
		delete(s.unanswered, name)
	}
	if s.waiting[name] != nil {
		delete(s.waiting, name)
		s.wake()
	}
}

func (s *Set) cancelAll() {
	for i := range streamCount {
		s.cancel(pb.Stream(i))
	}
}

// Attached takes the guest's answer. Connected must have returned nil before.
func (s *Set) Attached(a *pb.Attached) error {
	for _, info := range a.Streams {
		if !s.has(info.Stream) {
			return fmt.Errorf("%w: attached to %s, which was not asked for", protocol.ErrProtocol, label(info.Stream))
		}
		s.Retry(info.Stream, info.Generation)
	}
	for _, info := range a.Streams {
		s.answered(info.Stream)
	}
	return nil
}

func (s *Set) has(name pb.Stream) bool {
	return slices.ContainsFunc(s.streams, func(st stream) bool { return st.name() == name })
}

// Retry takes the generation that a failed Attach named, for the next AttachRequest.
func (s *Set) Retry(name pb.Stream, generation uint32) {
	for _, st := range s.streams {
		if st.name() == name {
			st.setGeneration(generation)
		}
	}
}
