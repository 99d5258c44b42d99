//go:build linux

package agent

import (
	"context"
	"os"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/extruntime"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/spawn"
	"github.com/bellhop-vm/bellhop/agent/statistics"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// tasks makes what runs. Tests of the operations have one that runs nothing.
type tasks interface {
	// Container makes a container whose first process waits to be started, with the OCI runtime at the path if one is given. If it fails, nothing is left.
	Container(ctx context.Context, runtime string, req *container.Request) (containerTask, error)

	// Exec makes the task of a process that is not a container's first. In is its container's task, nil outside containers. If it fails, nothing is left.
	Exec(in process.Task, cfg spawn.Config) (execTask, error)
}

// containerTask is a container's first process: a *container.Container or an *extruntime.Container.
type containerTask interface {
	process.Task
	process.ContainerTask
	Master() *os.File                          // gives the terminal to the caller; nil without
	Init() (pid int, file *os.File, err error) // the first process and its pidfd, which the caller closes. FAILED_PRECONDITION: it has ended

	// Statistics reads what the container uses. fs.ErrNotExist: it is deleted.
	Statistics(r *statistics.Reader) (*pb.ContainerStatistics, error)
}

// execTask is another process: a *spawn.Task or an *extruntime.Exec.
type execTask interface {
	process.Task
	Prepare() error       // does what can be done while stdio is connected
	SetStdio(spawn.Stdio) // before Start, behind Prepare
}

type realTasks struct {
	runtime  *container.Runtime
	runtimes *extruntime.Runtimes
	tree     *cgroup.Tree
	spawner  spawn.Spawner
}

func (t *realTasks) Container(ctx context.Context, runtime string, req *container.Request) (containerTask, error) {
	if runtime != "" {
		c, err := t.runtimes.Create(ctx, runtime, req)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	c, err := t.runtime.Create(ctx, req)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (t *realTasks) Exec(in process.Task, cfg spawn.Config) (execTask, error) {
	if c, ok := in.(*extruntime.Container); ok {
		task, err := c.Exec(cfg.ID, cfg.Process, cfg.Exited)
		if err != nil {
			return nil, err
		}
		return task, nil
	}
	cfg.Cgroups, cfg.Spawner = t.tree, t.spawner
	if in != nil {
		cfg.Container = in.(*container.Container)
	}
	task, err := spawn.New(cfg)
	if err != nil {
		return nil, err
	}
	return task, nil
}
