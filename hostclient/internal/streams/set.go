package streams

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Set is the host's end of one process's stdio.
type Set struct {
	hub     *Hub
	cfg     Config
	log     *slog.Logger
	crew    crew
	streams []stream // by number
	lost    lossQueue
	closing context.Context // ends with Close
	close   context.CancelFunc
	ended   chan struct{} // closed when unended is 0

	mu         sync.Mutex
	waiting    map[pb.Stream]*expectation // streams whose connection is expected
	conns      map[pb.Stream]net.Conn     // what has arrived last under the present token, alive or not
	unanswered map[pb.Stream]*unanswered
	changed    chan struct{} // closed and renewed when waiting, or bound, changes
	bound      time.Time     // of accepting; zero before Dialing
	failure    error         // why accepting is in vain
	unended    int           // outputs that have not been delivered to their end
	closed     bool
}

// stream is the host's end of one stream.
type stream interface {
	name() pb.Stream

	// check compares a preamble with what the stream can take up. Nothing is changed by it.
	check(protocol.Preamble) error

	// arrived takes a connection whose preamble was checked.
	arrived(net.Conn, protocol.Preamble)

	// retire ends the present connection and waits until the stream's offset is final, or ctx ends.
	retire(ctx context.Context) error

	// request is what an Attach says of the stream, but for the port and the token.
	request(takeOver bool) *pb.AttachStream

	// setGeneration takes the generation from the guest.
	setGeneration(uint32)

	// detach leaves the stream to others.
	detach()

	// finish waits until the stream has delivered what o says, nil for a stream that is not an output, and gives the error of the caller's Reader or Writer.
	finish(ctx context.Context, o *pb.Output) error

	// shut ends the stream's goroutines.
	shut()
}

// New begins to expect the streams of cfg at the hub, and does so again when one of their connections is lost before Created. The bound on their arrival runs from Dialing.
func New(hub *Hub, cfg Config) (*Set, error) {
	s := &Set{
		hub:        hub,
		cfg:        cfg,
		log:        cfg.Logger,
		waiting:    make(map[pb.Stream]*expectation),
		conns:      make(map[pb.Stream]net.Conn),
		unanswered: make(map[pb.Stream]*unanswered),
		changed:    make(chan struct{}),
		ended:      make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.crew.init()
	s.lost.init()
	if cfg.Stdin != nil {
		s.streams = append(s.streams, s.newInput(cfg.Stdin))
	}
	if cfg.Stdout != nil {
		s.streams = append(s.streams, s.newOutput(pb.Stream_STREAM_STDOUT, cfg.Stdout))
	}
	if cfg.Stderr != nil {
		s.streams = append(s.streams, s.newOutput(pb.Stream_STREAM_STDERR, cfg.Stderr))
	}
	if s.unended == 0 {
		close(s.ended)
	}
	if cfg.Attach {
		return s, nil
	}
	for _, st := range s.streams {
		s.expect(st)
	}
	return s, nil
}

func (s *Set) newInput(r io.Reader) stream {
	o := s.cfg.Options[pb.Stream_STREAM_STDIN]
	if o.Mode == pb.StdioMode_STDIO_MODE_DIRECT {
		return newDirectInput(s, r)
	}
	return newInput(s, r, o.Ring)
}

func (s *Set) newOutput(name pb.Stream, w io.Writer) stream {
	s.unended++
	if s.cfg.Options[name].Mode == pb.StdioMode_STDIO_MODE_DIRECT {
		return newDirectOutput(s, name, w)
	}
	return newOutput(s, name, w)
}

// expect begins to wait for a stream's connection, under a new token.
func (s *Set) expect(st stream) *expectation {
	e := &expectation{}
	_, _ = rand.Read(e.token[:]) // never fails
	e.check = func(p protocol.Preamble) error {
		if p.Stream != st.name() {
			return fmt.Errorf("%w: the token is not that of %s", protocol.ErrProtocol, label(p.Stream))
		}
		err := st.check(p)
		if errors.Is(err, errNotHeld) {
			s.fail(err)
		}
		return err
	}
	e.replace = func(ctx context.Context) error { return s.replace(ctx, e, st) }
	e.arrived = func(c net.Conn, p protocol.Preamble) { s.arrived(e, st, c, p) }
	s.mu.Lock()
	delete(s.conns, st.name())
	s.waiting[st.name()] = e
	s.unanswered[st.name()] = &unanswered{expectation: e}
	s.mu.Unlock()
	s.hub.expect(e)
	return e
}

// arrived is called by the hub.
func (s *Set) arrived(e *expectation, st stream, c net.Conn, p protocol.Preamble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.waiting[st.name()] != e {
		_ = c.Close()
		return
	}
	delete(s.waiting, st.name())
	s.conns[st.name()] = c
	if u := s.unanswered[st.name()]; u != nil {
		u.generation = p.Generation
	}
	st.arrived(c, p)
	s.wake()
}

// fail ends Connected, now and later.
func (s *Set) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
	s.wake()
}

// wake tells Connected that something changed. mu is held.
func (s *Set) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Stdio gives what Create must name.
func (s *Set) Stdio() []*pb.Stdio {
	s.mu.Lock()
	defer s.mu.Unlock()
	var res []*pb.Stdio
	for _, st := range s.streams {
		e := s.waiting[st.name()]
		if e == nil {
			continue
		}
		o := s.cfg.Options[st.name()]
		sd := &pb.Stdio{Stream: st.name(), Port: s.hub.port, Token: e.token[:], Mode: o.Mode, Detached: o.Detached}
		if st.name() != pb.Stream_STREAM_STDIN {
			sd.RingBytes = o.Ring
		}
		res = append(res, sd)
	}
	return res
}

// Dialing says that the guest dials: the bound on accepting starts (again, after AttachRequest).
func (s *Set) Dialing() {
	timeout := s.cfg.ConnectTimeout
	if timeout <= 0 {
		timeout = protocol.ConnectTimeout
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = time.Now().Add(timeout)
	s.wake()
}

// Connected waits until all expected streams have arrived. At the bound, or when ctx ends, its error names the missing ones (it wraps
// context.DeadlineExceeded or ctx's error). A guest that wants to go on with stdin where it can't is protocol.ErrProtocol at once, and for good.
func (s *Set) Connected(ctx context.Context) error {
	for {
		s.mu.Lock()
		missing, changed, bound, closed, failure := s.missing(), s.changed, s.bound, s.closed, s.failure
		s.mu.Unlock()
		if failure != nil {
			return failure
		}
		if closed {
			return errClosed
		}
		if missing == "" {
			return nil
		}
		if err := waitChange(ctx, changed, bound); err != nil {
			return fmt.Errorf("the guest did not connect %s: %w", missing, err)
		}
	}
}

// missing names the streams that have not arrived. One that is expected again has: the guest may know nothing of its loss, and will not dial then. mu is held.
func (s *Set) missing() string {
	var names []string
	for _, st := range s.streams {
		if e := s.waiting[st.name()]; e != nil && !e.again {
			names = append(names, label(st.name()))
		}
	}
	return strings.Join(names, ", ")
}

// waitChange waits for changed, until bound (none if zero) and as long as ctx lives.
func waitChange(ctx context.Context, changed <-chan struct{}, bound time.Time) error {
	var expired <-chan time.Time
	if !bound.IsZero() {
		t := time.NewTimer(time.Until(bound))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-changed:
		return nil
	case <-expired:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CloseStdin ends the input early: what the Reader gave before its last Read was called still arrives, then the end. A Read that is going on is abandoned: its
// goroutine ends when that Read returns, and what it gives is dropped.
func (s *Set) CloseStdin() {
	for _, st := range s.streams {
		if in, ok := st.(interface{ closeStdin() }); ok {
			in.closeStdin()
		}
	}
}

// Lost gives the connections that broke. Its buffer holds every stream's newest loss, so nobody has to read it. It is closed by Close.
func (s *Set) Lost() <-chan LostStream { return s.lost.ch }

// Ended is closed when every output has been delivered to its end, with no error of its Writer. A direct output has no end that could be known to be its process's.
func (s *Set) Ended() <-chan struct{} { return s.ended }

// outputEnded is called once by each output that is delivered to its end.
func (s *Set) outputEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unended--
	if s.unended == 0 {
		close(s.ended)
	}
}

// Outputs gives what the guest says in `drained` of outputs that have ended.
func (s *Set) Outputs() []*pb.Output {
	var res []*pb.Output
	for _, st := range s.streams {
		if o, ok := st.(*output); ok {
			res = append(res, &pb.Output{Stream: o.stream, Length: o.length(), Drained: true})
		}
	}
	return res
}

// Finish takes the final lengths from `drained`, waits until they are delivered (of an output that is not drained: until so much is), and checks them. It returns
// the first error of the caller's Reader or Writer, as os/exec does; a stream that ended elsewhere than the guest says wraps errdefs.ErrDataLoss.
// A direct output is waited for until its end of file.
func (s *Set) Finish(ctx context.Context, outputs []*pb.Output) error {
	byName := make(map[pb.Stream]*pb.Output)
	for _, o := range outputs {
		byName[o.Stream] = o
	}
	var first error
	for _, st := range s.streams {
		if err := st.finish(ctx, byName[st.name()]); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Detach ends all connections and leaves the streams to others: the guest keeps what is not received. The process is not disturbed.
func (s *Set) Detach() {
	s.cancelAll()
	for _, st := range s.streams {
		st.detach()
	}
}

var errClosed = errors.New("the process's stdio is closed")

func (s *Set) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close ends everything and joins every goroutine but one that is in the caller's Read or Write. It may be called more than once.
func (s *Set) Close() error {
	s.close()
	s.mu.Lock()
	s.closed = true
	s.wake()
	s.mu.Unlock()
	s.cancelAll()
	for _, st := range s.streams {
		st.shut()
	}
	s.crew.join()
	s.lost.close()
	return nil
}

// label is the name of a stream as people write it.
func label(name pb.Stream) string {
	switch name {
	case pb.Stream_STREAM_STDIN:
		return "stdin"
	case pb.Stream_STREAM_STDOUT:
		return "stdout"
	case pb.Stream_STREAM_STDERR:
		return "stderr"
	}
	return fmt.Sprintf("stream %d", name)
}

// lengthError says that a stream ended elsewhere than the guest said.
func lengthError(name pb.Stream, got, want uint64) error {
	return fmt.Errorf("%s has %d bytes, the guest says %d: %w", label(name), got, want, errdefs.ErrDataLoss)
}
