package process

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// ContainerTask is the Task of a container. None of these is called at the same time as another, or as Start or Delete.
type ContainerTask interface {
	// Pause stops all of the container, and returns when everything in it stands still. After an error nothing is stopped. What stands still can be killed.
	Pause(ctx context.Context) error

	// Resume lets it go on.
	Resume(ctx context.Context) error

	// Update changes the resources that the JSON of a spec's linux.resources names. After an error nothing has changed.
	Update(resources []byte) error
}

// container gives the task of a process that is a container's first.
func (p *Process) container() (ContainerTask, error) {
	if task, ok := p.task.(ContainerTask); ok && p.cfg.IsContainer {
		return task, nil
	}
	return nil, failure.New(errdefs.ErrInvalidArgument, "process %s is not a container", p.cfg.ID)
}

// Update changes the resources of a container that has not exited.
func (p *Process) Update(ctx context.Context, resources []byte) error {
	return failure.Step(p.update(ctx, resources), "update container %s", p.cfg.ID)
}

func (p *Process) update(ctx context.Context, resources []byte) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	task, err := p.container()
	if err != nil {
		return err
	}
	if err := p.over(); err != nil {
		return err
	}
	return task.Update(resources)
}
