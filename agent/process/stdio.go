package process

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// maxSize is the most columns or rows that the kernel's struct winsize holds.
const maxSize = 1<<16 - 1

// CheckSize refuses a size that a terminal cannot have. Nil is no size.
func CheckSize(s *pb.Size) error {
	if s.GetColumns() > maxSize || s.GetRows() > maxSize {
		return failure.Field("size", "%d columns and %d rows, at most %d each", s.GetColumns(), s.GetRows(), maxSize)
	}
	return nil
}

// Resize sets the size of the process's terminal, also before it starts.
func (p *Process) Resize(size *pb.Size) error {
	if err := CheckSize(size); err != nil {
		return err
	}
	if !p.cfg.Terminal {
		return failure.New(errdefs.ErrFailedPrecondition, "process %s has no terminal", p.cfg.ID)
	}
	p.mu.Lock()
	st := p.state
	p.size = size // a start that begins later uses it
	p.mu.Unlock()
	if st == deleted {
		return p.notFound()
	}
	return p.applySize(size)
}

// applySize sets the size of the terminal if there is one yet.
func (p *Process) applySize(size *pb.Size) error {
	master := p.stdio.Master()
	if master == nil {
		return nil
	}
	return SetSize(master, size)
}

// CloseStdin ends the process's input behind what was received, and gives the offset of the end.
func (p *Process) CloseStdin() (uint64, error) {
	for _, s := range p.stdio.Info() {
		if s.Stream == pb.Stream_STREAM_STDIN && !s.Direct {
			return p.stdio.CloseStdin(), nil
		}
	}
	return 0, failure.New(errdefs.ErrFailedPrecondition, "process %s has no stdin that the agent relays", p.cfg.ID)
}

// Attach connects streams anew (SPEC 7).
func (p *Process) Attach(ctx context.Context, a *pb.Attach, owner []byte, dialing func()) (*pb.Attached, error) {
	out, err := p.stdio.Attach(ctx, a, owner, dialing)
	if err == nil {
		p.table.hub.changed(p)
	}
	return out, err
}

// Detach retires connections.
func (p *Process) Detach(d *pb.Detach) error {
	err := p.stdio.Detach(d)
	if err == nil {
		p.table.hub.changed(p)
	}
	return err
}

// winsize is size in the kernel's form.
func winsize(s *pb.Size) *unix.Winsize {
	return &unix.Winsize{Row: uint16(s.GetRows()), Col: uint16(s.GetColumns())}
}
