package process

import (
	"context"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// noBound asks WaitDrained for no bound.
const noBound = -1

// DrainBound reads drain_timeout_ms of a request.
func DrainBound(ms uint32) time.Duration {
	switch ms {
	case 0:
		return protocol.DrainTimeout
	case protocol.NoDrainTimeout:
		return noBound
	}
	return time.Duration(ms) * time.Millisecond
}

// WaitExited waits until the process's status is known. A process whose start failed gives the error of that; one that was deleted before it ran has a
// status without a start time.
func (p *Process) WaitExited(ctx context.Context) (*pb.Exited, error) {
	select {
	case <-p.exited:
	case <-p.gone:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return nil, p.failed
	}
	return p.exit, nil
}

// WaitDrained waits, after the exit, until all output is delivered or the bound is over.
func (p *Process) WaitDrained(ctx context.Context, bound time.Duration) (*pb.Drained, error) {
	exit, err := p.WaitExited(ctx)
	if err != nil {
		return nil, err
	}
	outputs, err := p.stdio.WaitDrained(ctx, bound)
	if err != nil {
		return nil, err
	}
	return &pb.Drained{Exited: exit, Outputs: outputs}, nil
}
