package hostclient

import (
	"context"
	"io"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// AttachConfig says what to attach to an existing process. The zero value attaches nothing: the process can be waited for, signalled and deleted.
type AttachConfig struct {
	Stdin          io.Reader // nil: not attached; the same for the others
	Stdout, Stderr io.Writer

	// TakeOver takes the streams from a client that is attached. Without it that is errdefs.ErrFailedPrecondition.
	TakeOver bool

	// StdoutOffset and StderrOffset are where to go on, in bytes from the stream's beginning; what is not buffered any more is errdefs.ErrOutOfRange. Nil: where the
	// client before had acknowledged, so that up to a buffer of output may be seen again.
	StdoutOffset, StderrOffset *uint64

	ConnectTimeout time.Duration // as in ProcessConfig
	DrainTimeout   time.Duration // as in ProcessConfig
	OnDelete       func()        // as in ProcessConfig
}

// Attach gives a process that exists in the guest, whoever created it, and connects to its streams those that cfg names. cfg may be nil.
func (c *Client) Attach(ctx context.Context, id string, cfg *AttachConfig) (*Process, error) {
	if cfg == nil {
		cfg = new(AttachConfig)
	}
	p := c.newProcess(ProcessConfig{
		ID:             id,
		Stdin:          cfg.Stdin,
		Stdout:         cfg.Stdout,
		Stderr:         cfg.Stderr,
		ConnectTimeout: cfg.ConnectTimeout,
		DrainTimeout:   cfg.DrainTimeout,
		OnDelete:       cfg.OnDelete,
	})
	info, err := c.lookUp(ctx, id, &p.guest)
	if err == nil {
		err = p.adopt(ctx, info, cfg)
	}
	if err != nil {
		p.release(err)
		return nil, operationError("attach to process "+id, err)
	}
	return p, nil
}

// adopt makes p the object of the process that info describes.
func (p *Process) adopt(ctx context.Context, info *pb.ProcessInfo, cfg *AttachConfig) error {
	state := stateCreated
	if info.GetState() >= pb.State_STATE_RUNNING {
		state = stateStarted
		p.pid = int(info.GetPid())
	}
	set, err := p.newSet(func(sc *streams.Config) {
		sc.Attach = true
		sc.AttachAt = [3]*uint64{nil, cfg.StdoutOffset, cfg.StderrOffset}
	})
	if err != nil {
		return err
	}
	if set != nil {
		p.stdio = newStdio(set, &p.cfg, generations(info))
	}
	if err := p.client.track(p); err != nil {
		return err
	}
	if p.stdio != nil {
		if err := p.attach(ctx, cfg.TakeOver, info.GetStreams(), p.stdio.which()...); err != nil {
			return err
		}
	}
	return p.created(nil, state)
}

func generations(info *pb.ProcessInfo) (g [3]uint32) {
	for _, s := range info.GetStreams() {
		if i := s.GetStream(); i >= 0 && int(i) < len(g) {
			g[i] = s.GetGeneration()
		}
	}
	return g
}

// which names the connected streams.
func (s *stdio) which() []pb.Stream {
	var which []pb.Stream
	for i, connected := range s.connected {
		if connected {
			which = append(which, pb.Stream(i))
		}
	}
	return which
}

// Detach ends the connections of the process's streams and leaves them to other clients; the process runs on, and blocks when its buffers are full. It can
// still be waited for here.
func (p *Process) Detach(ctx context.Context) error {
	what := "detach from process " + p.id
	if err := p.exists(); err != nil {
		return operationError(what, err)
	}
	if p.stdio == nil {
		return nil
	}
	p.stdio.giveUp(errDetached)
	select { // an attach that goes on would undo the detaching
	case <-p.stdio.kept:
	case <-p.life.Done():
		return operationError(what, context.Cause(p.life))
	}
	p.stdio.set.Detach()
	detach := &pb.Detach{Id: p.id}
	for _, s := range p.stdio.which() {
		detach.Streams = append(detach.Streams, &pb.DetachStream{Stream: s, Generation: p.stdio.currentGeneration(s)})
	}
	return p.do(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_Detach{Detach: detach}},
		repeat:  true,
		result:  expect((*pb.Response).GetDetached, nil),
	})
}
