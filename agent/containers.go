//go:build linux

package agent

import (
	"context"

	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/repeat"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// The operations on containers as a whole.

func (a *Agent) pause(ctx context.Context, call *control.Call, req *pb.Pause) (*pb.Response, error) {
	answer := &pb.Response{What: &pb.Response_Paused{Paused: &pb.Paused{}}}
	return a.onceWith(ctx, call, repeat.Pause, req.RequestId, req.Id, answer, (*process.Process).Pause)
}

func (a *Agent) resume(ctx context.Context, call *control.Call, req *pb.Resume) (*pb.Response, error) {
	answer := &pb.Response{What: &pb.Response_Resumed{Resumed: &pb.Resumed{}}}
	return a.onceWith(ctx, call, repeat.Resume, req.RequestId, req.Id, answer, (*process.Process).Resume)
}

func (a *Agent) update(ctx context.Context, req *pb.Update) (*pb.Response, error) {
	p, err := a.table.Get(req.Id)
	if err != nil {
		return nil, err
	}
	if err := p.Update(ctx, req.Resources); err != nil {
		return nil, err
	}
	return &pb.Response{What: &pb.Response_Updated{Updated: &pb.Updated{}}}, nil
}

// onceWith does once something that succeeds with always the same answer.
func (a *Agent) onceWith(ctx context.Context, call *control.Call, op repeat.Op, requestID []byte, id string, answer *pb.Response, do func(*process.Process, context.Context) error) (*pb.Response, error) {
	return a.once(ctx, call, op, requestID, id, func(ctx context.Context, _ func(*pb.Response)) (*pb.Response, error) {
		p, err := a.table.Get(id)
		if err != nil {
			return nil, err
		}
		if err := do(p, ctx); err != nil {
			return nil, err
		}
		return answer, nil
	})
}
