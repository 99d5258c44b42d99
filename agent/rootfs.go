//go:build linux

package agent

import (
	"context"
	"fmt"

	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/repeat"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func (a *Agent) prepareRootfs(ctx context.Context, call *control.Call, req *pb.PrepareRootfs) (*pb.Response, error) {
	resp, err := a.onceForRootfs(ctx, call, repeat.PrepareRootfs, req.RequestId, req.Id, func(ctx context.Context) (*pb.Response, error) {
		path, err := a.roots.Prepare(ctx, req)
		if err != nil {
			return nil, err
		}
		return &pb.Response{What: &pb.Response_RootfsPrepared{RootfsPrepared: &pb.RootfsPrepared{Path: path}}}, nil
	})
	return resp, failure.Step(err, "prepare root file system %s", req.Id)
}

func (a *Agent) removeRootfs(ctx context.Context, call *control.Call, req *pb.RemoveRootfs) (*pb.Response, error) {
	resp, err := a.onceForRootfs(ctx, call, repeat.RemoveRootfs, req.RequestId, req.Id, func(context.Context) (*pb.Response, error) {
		if err := a.roots.Remove(req.Id); err != nil {
			return nil, err
		}
		a.repeats.Forget(rootfsObject(req.Id))
		return &pb.Response{What: &pb.Response_RootfsRemoved{RootfsRemoved: &pb.RootfsRemoved{}}}, nil
	})
	return resp, failure.Step(err, "remove root file system %s", req.Id)
}

// rootfsPart is how many root file systems one answer of ListRootfs holds: as listPart, far below any message limit.
const rootfsPart = 128

// listRootfs answers in parts, as list does.
func (a *Agent) listRootfs(call *control.Call) (*pb.Response, error) {
	rest := a.roots.List()
	for len(rest) > rootfsPart {
		if err := call.Progress(rootfsListed(rest[:rootfsPart])); err != nil {
			return nil, fmt.Errorf("cannot send root file systems: %w", err)
		}
		rest = rest[rootfsPart:]
	}
	return rootfsListed(rest), nil
}

func rootfsListed(rootfs []*pb.RootfsInfo) *pb.Response {
	return &pb.Response{What: &pb.Response_RootfsListed{RootfsListed: &pb.RootfsListed{Rootfs: rootfs}}}
}

// rootfsObject names a root file system among the objects of requests; no process has a space in its id.
func rootfsObject(id string) string { return "rootfs " + id }

func (a *Agent) onceForRootfs(
	ctx context.Context, call *control.Call, op repeat.Op, requestID []byte, id string, f func(context.Context) (*pb.Response, error),
) (*pb.Response, error) {
	rid, err := repeat.ParseID(requestID)
	if err != nil {
		return nil, err
	}
	if err := protocol.CheckID(id); err != nil {
		return nil, err
	}
	key := repeat.Key{ID: rid, Op: op, Object: rootfsObject(id)}
	return a.repeats.Do(ctx, key, call.Progress, func(ctx context.Context, _ func(*pb.Response)) (*pb.Response, error) { return f(ctx) })
}
