//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/statistics"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// statisticsPart is how many bytes of containers make a part of the answer. One container has some 500, and with as many devices and interfaces as may be 13,000, so a part is far below any message limit.
const statisticsPart = 32 << 10

// statistics answers in parts. It holds no lock while it reads or sends: whatever holds it up holds up nothing else.
func (a *Agent) statistics(ctx context.Context, call *control.Call, req *pb.Statistics) (*pb.Response, error) {
	chosen, err := a.containers(req.Ids)
	if err != nil {
		return nil, err
	}
	reader := statistics.NewReader()
	part, size := new(pb.StatisticsPart), 0
	for _, p := range chosen {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := p.Task().(containerTask).Statistics(reader)
		if errors.Is(err, fs.ErrNotExist) && len(req.Ids) == 0 {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, failure.Step(failure.System(err), "read statistics of container %s", p.ID())
		}
		s.Id = p.ID()
		if size += s.SizeVT(); size > statisticsPart {
			if err := call.Progress(&pb.Response{What: &pb.Response_Statistics{Statistics: part}}); err != nil {
				return nil, fmt.Errorf("cannot send statistics: %w", err)
			}
			part, size = new(pb.StatisticsPart), s.SizeVT()
		}
		part.Containers = append(part.Containers, s)
	}
	return &pb.Response{What: &pb.Response_Statistics{Statistics: part}}, nil
}

// containers finds those of the ids, in that order; without ids all, by their names.
func (a *Agent) containers(ids []string) ([]*process.Process, error) {
	if len(ids) > protocol.MaxProcesses {
		return nil, failure.Field("ids", "%d, at most %d", len(ids), protocol.MaxProcesses)
	}
	var chosen []*process.Process
	for _, id := range ids {
		p, err := a.container(id)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, p)
	}
	if len(ids) > 0 {
		return chosen, nil
	}
	for _, p := range a.table.All() {
		if p.IsContainer() {
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}
