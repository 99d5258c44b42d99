package hostclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// How long to wait between attempts to attach again.
const (
	firstReattach = 10 * time.Millisecond
	lastReattach  = time.Second
)

// stdio is a process's streams on the host, and what is known of their attachments.
type stdio struct {
	set       *streams.Set
	connected [3]bool
	whole     bool // no other client has streams of the process

	toldNews chan struct{} // holds an element when told has something new

	finishing context.Context // ends when a stream is lost for good, or detached; its cause says why
	giveUp    context.CancelCauseFunc
	kept      chan struct{} // closed when keepAttached has returned
	violated  chan struct{} // closed when a stream is lost since the guest breaks the protocol: there is no use in waiting for its exit

	mu         sync.Mutex
	generation [3]uint32
	told       [3]uint32 // the newest generation of which the guest says that its connection broke; 0: none that was not looked at
}

// openStdio listens, and expects the streams of the configuration. It is nil without streams.
func (p *Process) openStdio() (*stdio, error) {
	set, err := p.newSet(nil)
	if set == nil || err != nil {
		return nil, err
	}
	s := newStdio(set, &p.cfg, [3]uint32{1, 1, 1})
	s.whole = true
	return s, nil
}

func newStdio(set *streams.Set, cfg *ProcessConfig, generation [3]uint32) *stdio {
	s := &stdio{
		set:        set,
		connected:  [3]bool{cfg.Stdin != nil, cfg.Stdout != nil, cfg.Stderr != nil},
		toldNews:   make(chan struct{}, 1),
		kept:       make(chan struct{}),
		violated:   make(chan struct{}),
		generation: generation,
	}
	s.finishing, s.giveUp = context.WithCancelCause(context.Background())
	return s
}

// newSet makes the streams; adapt, if not nil, has the last word on their configuration.
func (p *Process) newSet(adapt func(*streams.Config)) (*streams.Set, error) {
	cfg := streams.Config{
		Stdin:          p.cfg.Stdin,
		Stdout:         p.cfg.Stdout,
		Stderr:         p.cfg.Stderr,
		ConnectTimeout: p.cfg.ConnectTimeout,
		Logger:         p.log,
	}
	if cfg.Stdin == nil && cfg.Stdout == nil && cfg.Stderr == nil {
		return nil, nil
	}
	for i, o := range p.cfg.options() {
		cfg.Options[i] = streamOptions(o)
	}
	if adapt != nil {
		adapt(&cfg)
	}
	hub, err := p.client.stdioHub()
	if err != nil {
		return nil, err
	}
	return streams.New(hub, cfg)
}

func streamOptions(o StreamOptions) streams.Options {
	opt := streams.Options{Ring: uint32(o.Buffer)}
	if o.Direct {
		opt.Mode = pb.StdioMode_STDIO_MODE_DIRECT
	}
	if o.DropOldest {
		opt.Detached = pb.DetachedPolicy_DETACHED_POLICY_DROP_OLDEST
	}
	return opt
}

func (p *Process) connected(s Stream) bool { return p.stdio != nil && p.stdio.connected[s] }

// finish waits until the output is delivered.
func (s *stdio) finish(ctx context.Context, outputs []*pb.Output) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.finishing, func() { cancel(context.Cause(s.finishing)) })
	defer stop()
	err := s.set.Finish(ctx, outputs)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, errDetached) {
		return nil // the output is somebody else's
	}
	if errors.Is(err, io.ErrClosedPipe) {
		return nil // the caller closed the pipe that StdoutPipe or StderrPipe gave, and wants no more
	}
	return err
}

// lost says why output is missing, nil if it is whole as far as is known.
func (s *stdio) lost() error { return context.Cause(s.finishing) }

func (s *stdio) currentGeneration(stream pb.Stream) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation[stream]
}

func (s *stdio) attached(a *pb.Attached) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, info := range a.GetStreams() {
		if i := info.GetStream(); i >= 0 && int(i) < len(s.generation) {
			s.generation[i] = info.GetGeneration()
		}
	}
}

// streamLost takes the guest's word that a connection broke which may look alive from here.
func (p *Process) streamLost(stream pb.Stream, generation uint32) {
	if p.stdio != nil && stream >= 0 && int(stream) < len(p.stdio.connected) && p.stdio.connected[stream] {
		p.stdio.tell(stream, generation)
	}
}

// tell keeps the newest loss of a stream. A generation that is not current yet may be that of the attach that goes on, whose answer this has overtaken.
func (s *stdio) tell(stream pb.Stream, generation uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation < s.generation[stream] {
		return // of an earlier attachment
	}
	s.told[stream] = max(generation, s.told[stream])
	select {
	case s.toldNews <- struct{}{}:
	default:
	}
}

// takeTold gives the losses that the guest has told of.
func (s *stdio) takeTold() []streams.LostStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost []streams.LostStream
	for i, generation := range s.told {
		if generation != 0 {
			lost = append(lost, streams.LostStream{Stream: pb.Stream(i), Generation: generation})
		}
	}
	s.told = [3]uint32{}
	return lost
}

// keepAttached attaches again to streams whose connections break, for as long as the host has the process and wants them, or until one can't be had any more: then the
// process's stdio is not whole, and Wait says so.
func (p *Process) keepAttached() {
	defer close(p.stdio.kept)
	ctx, cancel := context.WithCancelCause(p.life)
	defer cancel(nil)
	defer context.AfterFunc(p.stdio.finishing, func() { cancel(context.Cause(p.stdio.finishing)) })()
	for {
		var lost []streams.LostStream
		select {
		case l := <-p.stdio.set.Lost():
			lost = append(lost, l)
		case <-p.stdio.toldNews:
			lost = p.stdio.takeTold()
		case <-ctx.Done():
			return
		}
		for _, l := range lost {
			if err := p.restore(ctx, l); err != nil && ctx.Err() == nil {
				p.log.Warn("lost a stream", "process", p.id, "stream", Stream(l.Stream), "err", err)
				p.stdio.giveUp(fmt.Errorf("lost %v: %w", Stream(l.Stream), err))
				if errors.Is(err, protocol.ErrProtocol) {
					close(p.stdio.violated)
				}
				return
			}
		}
	}
}

// restore attaches again to a stream, unless both ends noticed the loss and it is attached again already.
func (p *Process) restore(ctx context.Context, lost streams.LostStream) error {
	if ctx.Err() != nil || lost.Generation != p.stdio.currentGeneration(lost.Stream) {
		return nil
	}
	return p.reattach(ctx, lost.Stream)
}

// reattach attaches to a stream again, for as long as that can succeed.
func (p *Process) reattach(ctx context.Context, stream pb.Stream) error {
	var known []*pb.StreamInfo // what the guest says of the stream, when the answer to an attach was lost
	for delay := firstReattach; ; delay = min(2*delay, lastReattach) {
		err := p.attach(ctx, false, known, stream)
		if err == nil || !worthReattaching(err) {
			return err
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		if known, err = p.afterFailedAttach(ctx, err, stream); err != nil {
			return err
		}
	}
}

// worthReattaching tells a connection that failed from a stream that is gone, taken over, or past its buffer.
func worthReattaching(err error) bool {
	for _, final := range []error{
		errdefs.ErrNotFound, errdefs.ErrFailedPrecondition, errdefs.ErrOutOfRange, errdefs.ErrInvalidArgument, errdefs.ErrNotImplemented,
		ErrGuestRestarted, ErrClosed, protocol.ErrProtocol,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// afterFailedAttach finds out under which generation the next attempt must go: the error says so, or, if there was no answer, the list of processes.
func (p *Process) afterFailedAttach(ctx context.Context, failed error, stream pb.Stream) ([]*pb.StreamInfo, error) {
	if status, ok := errors.AsType[*protocol.StatusError](failed); ok {
		if g := status.PB.GetGeneration(); g != 0 {
			p.stdio.set.Retry(stream, g)
		}
		return nil, nil
	}
	info, err := p.client.lookUp(ctx, p.id, &p.guest)
	if err != nil {
		return nil, err
	}
	return info.GetStreams(), nil
}

// lookUp finds a process in the guest's list; a missing one is errdefs.ErrNotFound.
func (c *Client) lookUp(ctx context.Context, id string, guest *instanceID) (*pb.ProcessInfo, error) {
	listed, err := c.list(ctx, guest)
	if err != nil {
		return nil, err
	}
	for _, info := range listed.GetProcesses() {
		if info.GetId() == id {
			return info, nil
		}
	}
	return nil, fmt.Errorf("the guest has no process %s: %w", id, errdefs.ErrNotFound)
}

// attach performs one Attach (SPEC 7).
func (p *Process) attach(ctx context.Context, takeOver bool, known []*pb.StreamInfo, which ...pb.Stream) error {
	what := "attach to process " + p.id
	request, err := p.stdio.set.AttachRequest(takeOver, known, which...)
	if err != nil {
		return operationError(what, err)
	}
	var attached *pb.Attached
	err = p.performCreate(ctx, operation{
		what: what,
		request: &pb.Request{Op: &pb.Request_Attach{Attach: &pb.Attach{
			Id: p.id, Streams: request, ConnectTimeoutMs: milliseconds(p.cfg.ConnectTimeout),
		}}},
		guest:  &p.guest,
		result: expect((*pb.Response).GetAttached, &attached),
	})
	if err != nil {
		return err
	}
	if err := p.stdio.set.Attached(attached); err != nil {
		return operationError(what, err)
	}
	p.stdio.attached(attached)
	return nil
}
