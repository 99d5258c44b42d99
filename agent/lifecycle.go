//go:build linux

package agent

import (
	"context"
	"syscall"
	"time"

	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/repeat"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// once does an operation that carries a request id, on the process of the given id.
func (a *Agent) once(ctx context.Context, call *control.Call, op repeat.Op, requestID []byte, id string, f repeat.Func) (*pb.Response, error) {
	rid, err := repeat.ParseID(requestID)
	if err != nil {
		return nil, err
	}
	if err := protocol.CheckID(id); err != nil {
		return nil, err
	}
	return a.repeats.Do(ctx, repeat.Key{ID: rid, Op: op, Object: id}, call.Progress, f)
}

func (a *Agent) start(ctx context.Context, call *control.Call, req *pb.Start) (*pb.Response, error) {
	return a.once(ctx, call, repeat.Start, req.RequestId, req.Id, func(ctx context.Context, _ func(*pb.Response)) (*pb.Response, error) {
		p, err := a.table.Get(req.Id)
		if err != nil {
			return nil, err
		}
		started, err := p.Start(ctx)
		if err != nil {
			a.forgetIfGone(p)
			return nil, err
		}
		return startedResponse(started), nil
	})
}

func startedResponse(s *pb.Started) *pb.Response {
	return &pb.Response{What: &pb.Response_Started{Started: s}}
}

// forgetIfGone drops the remembered results of a process that a failed start removed.
func (a *Agent) forgetIfGone(p *process.Process) {
	if p.Deleted() {
		a.repeats.Forget(p.ID())
	}
}

func (a *Agent) wait(ctx context.Context, call *control.Call, req *pb.Wait) (*pb.Response, error) {
	p, err := a.table.Get(req.Id)
	if err != nil {
		return nil, err
	}
	exited, err := p.WaitExited(ctx)
	if err != nil {
		return nil, err
	}
	resp := &pb.Response{What: &pb.Response_Exited{Exited: exited}}
	if req.ExitOnly {
		return resp, nil
	}
	if err := call.Progress(resp); err != nil {
		return nil, err
	}
	drained, err := p.WaitDrained(ctx, process.DrainBound(req.DrainTimeoutMs))
	if err != nil {
		return nil, err
	}
	return &pb.Response{What: &pb.Response_Drained{Drained: drained}}, nil
}

// maxSignal is the highest signal of Linux.
const maxSignal = 64

func (a *Agent) kill(ctx context.Context, call *control.Call, req *pb.Kill) (*pb.Response, error) {
	if req.Signal < 1 || req.Signal > maxSignal {
		return nil, failure.Field("signal", "%d, must be 1 to %d", req.Signal, maxSignal)
	}
	return a.once(ctx, call, repeat.Kill, req.RequestId, req.Id, func(context.Context, func(*pb.Response)) (*pb.Response, error) {
		p, err := a.table.Get(req.Id)
		if err != nil {
			return nil, err
		}
		if err := p.Signal(syscall.Signal(req.Signal), req.All); err != nil {
			return nil, failure.Step(err, "signal process %s", req.Id)
		}
		return &pb.Response{What: &pb.Response_Killed{Killed: &pb.Killed{}}}, nil
	})
}

func (a *Agent) delete(ctx context.Context, call *control.Call, req *pb.Delete) (*pb.Response, error) {
	return a.once(ctx, call, repeat.Delete, req.RequestId, req.Id, func(ctx context.Context, _ func(*pb.Response)) (*pb.Response, error) {
		p, err := a.table.Get(req.Id)
		if err != nil {
			return nil, err
		}
		execs := p.Execs()
		survivors, err := p.Delete(ctx, req.Force)
		if err != nil {
			return nil, err
		}
		a.repeats.Forget(req.Id)
		for _, id := range execs {
			a.repeats.Forget(id)
		}
		return &pb.Response{What: &pb.Response_Deleted{Deleted: &pb.Deleted{Survivors: survivors}}}, nil
	})
}

func (a *Agent) resize(req *pb.Resize) (*pb.Response, error) {
	if req.Size == nil {
		return nil, failure.Field("size", "missing")
	}
	p, err := a.table.Get(req.Id)
	if err != nil {
		return nil, err
	}
	if err := p.Resize(req.Size); err != nil {
		return nil, failure.Step(err, "resize terminal of %s", req.Id)
	}
	return &pb.Response{What: &pb.Response_Resized{Resized: &pb.Resized{}}}, nil
}

func (a *Agent) closeStdin(req *pb.CloseStdin) (*pb.Response, error) {
	p, err := a.table.Get(req.Id)
	if err != nil {
		return nil, err
	}
	offset, err := p.CloseStdin()
	if err != nil {
		return nil, err
	}
	return &pb.Response{What: &pb.Response_StdinClosed{StdinClosed: &pb.StdinClosed{Offset: offset}}}, nil
}

func (a *Agent) attach(ctx context.Context, call *control.Call, req *pb.Attach) (*pb.Response, error) {
	if _, err := connectBound(req.ConnectTimeoutMs); err != nil {
		return nil, err
	}
	p, err := a.table.Get(req.Id)
	if err != nil {
		return nil, err
	}
	attached, err := p.Attach(ctx, req, call.Client.Instance, func() {
		_ = call.Progress(dialing()) // a stream that is gone ends the context too
	})
	if err != nil {
		return nil, failure.Step(err, "attach to process %s", req.Id)
	}
	return &pb.Response{What: &pb.Response_Attached{Attached: attached}}, nil
}

func (a *Agent) detach(req *pb.Detach) (*pb.Response, error) {
	p, err := a.table.Get(req.Id)
	if err != nil {
		return nil, err
	}
	if err := p.Detach(req); err != nil {
		return nil, failure.Step(err, "detach from process %s", req.Id)
	}
	return &pb.Response{What: &pb.Response_Detached{Detached: &pb.Detached{}}}, nil
}

func dialing() *pb.Response {
	return &pb.Response{What: &pb.Response_Dialing{Dialing: &pb.Dialing{}}}
}

// connectBound reads connect_timeout_ms of a request.
func connectBound(ms uint32) (time.Duration, error) {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d == 0:
		return protocol.ConnectTimeout, nil
	case d > protocol.MaxConnectTimeout:
		return 0, failure.Field("connect_timeout_ms", "%d, at most %d", ms, protocol.MaxConnectTimeout/time.Millisecond)
	}
	return d, nil
}
