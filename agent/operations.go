//go:build linux

package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/mount"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Handle is the table of operations.
func (a *Agent) Handle(ctx context.Context, call *control.Call) (*pb.Response, error) {
	switch op := call.Request.Op.(type) {
	case *pb.Request_Ping:
		return &pb.Response{What: &pb.Response_Pong{Pong: &pb.Pong{}}}, nil
	case *pb.Request_Info:
		return a.info(), nil
	case *pb.Request_Create:
		return a.create(ctx, call, op.Create)
	case *pb.Request_Start:
		return a.start(ctx, call, op.Start)
	case *pb.Request_Wait:
		return a.wait(ctx, call, op.Wait)
	case *pb.Request_Kill:
		return a.kill(ctx, call, op.Kill)
	case *pb.Request_Resize:
		return a.resize(op.Resize)
	case *pb.Request_CloseStdin:
		return a.closeStdin(op.CloseStdin)
	case *pb.Request_Delete:
		return a.delete(ctx, call, op.Delete)
	case *pb.Request_List:
		return a.list(call)
	case *pb.Request_Attach:
		return a.attach(ctx, call, op.Attach)
	case *pb.Request_Detach:
		return a.detach(op.Detach)
	case *pb.Request_Watch:
		return nil, a.watch(ctx, call, op.Watch)
	case *pb.Request_Pause:
		return a.pause(ctx, call, op.Pause)
	case *pb.Request_Resume:
		return a.resume(ctx, call, op.Resume)
	case *pb.Request_Update:
		return a.update(ctx, op.Update)
	case *pb.Request_Statistics:
		return a.statistics(ctx, call, op.Statistics)
	case *pb.Request_Checkpoint:
		return nil, failure.New(errdefs.ErrNotImplemented, "containers cannot be checkpointed: snapshot the virtual machine, with everything in it")
	case *pb.Request_Mount:
		return &pb.Response{What: &pb.Response_Mounted{Mounted: &pb.Mounted{}}}, mount.Mount(op.Mount)
	case *pb.Request_Unmount:
		return &pb.Response{What: &pb.Response_Unmounted{Unmounted: &pb.Unmounted{}}}, mount.Unmount(op.Unmount.Target)
	case *pb.Request_PrepareRootfs:
		return a.prepareRootfs(ctx, call, op.PrepareRootfs)
	case *pb.Request_RemoveRootfs:
		return a.removeRootfs(ctx, call, op.RemoveRootfs)
	case *pb.Request_ListRootfs:
		return a.listRootfs(call)
	case *pb.Request_Shutdown:
		return a.shutdown(ctx, call, op.Shutdown)
	}
	return nil, failure.New(errdefs.ErrNotImplemented, "the request names no operation that this agent knows")
}

// atOnce tells operations that the reader of a connection may do itself.
func atOnce(req *pb.Request) bool {
	switch req.Op.(type) {
	case *pb.Request_Ping, *pb.Request_Info:
		return true
	}
	return false
}

// watch sends events until the host closes the stream.
func (a *Agent) watch(ctx context.Context, call *control.Call, req *pb.Watch) error {
	w, err := a.table.Hub().Watch(req.LossesOnly)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if err := call.Progress(&pb.Response{What: &pb.Response_Event{Event: e}}); err != nil {
			return fmt.Errorf("cannot send event: %w", err)
		}
	}
}

// shutdownGrace is how long the answer to Shutdown has to reach the host before its connection is closed, unless the host closes the stream earlier.
const shutdownGrace = 500 * time.Millisecond

// shutdown answers first: after that Serve ends.
func (a *Agent) shutdown(ctx context.Context, call *control.Call, req *pb.Shutdown) (*pb.Response, error) {
	var end error
	switch req.Mode {
	case pb.ShutdownMode_SHUTDOWN_MODE_POWER_OFF:
		end = ErrPowerOff
	case pb.ShutdownMode_SHUTDOWN_MODE_REBOOT:
		end = ErrReboot
	default:
		return nil, failure.Field("mode", "no such mode as %d", req.Mode)
	}
	call.After(func() {
		t := time.NewTimer(shutdownGrace)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		select {
		case a.ending <- end:
		default: // the guest is ending already
		}
	})
	return &pb.Response{What: &pb.Response_ShuttingDown{ShuttingDown: &pb.ShuttingDown{}}}, nil
}
