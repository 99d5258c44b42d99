package process

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// Pause stops a running container with its execs. As with runc and containerd, one that is paused already is FAILED_PRECONDITION. If the context ends before everything stands still,
// all of it goes on.
func (p *Process) Pause(ctx context.Context) error {
	return failure.Step(p.pause(ctx), "pause container %s", p.cfg.ID)
}

func (p *Process) pause(ctx context.Context) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	task, err := p.beginPause(cancel)
	if err != nil {
		return err
	}
	err = task.Pause(ctx)
	p.setPaused(err == nil)
	return err
}

// Resume lets a paused container go on.
func (p *Process) Resume(ctx context.Context) error {
	return failure.Step(p.resume(ctx), "resume container %s", p.cfg.ID)
}

func (p *Process) resume(ctx context.Context) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	task, err := p.beginResume()
	if err != nil {
		return err
	}
	if err := task.Resume(ctx); err != nil {
		return err
	}
	p.setPaused(false)
	return nil
}

// beginPause checks that the container may be paused. interrupt is what a forced delete cancels the pause with.
func (p *Process) beginPause(interrupt context.CancelFunc) (ContainerTask, error) {
	task, err := p.container()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.state == deleted:
		return nil, p.notFound()
	case p.state == exited:
		return nil, p.hasExited()
	case p.state == created:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "it has not been started")
	case p.paused:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "it is paused already")
	}
	p.pausing, p.interrupt = true, interrupt
	return task, nil
}

// beginResume checks that the container may be resumed: also when its first process was killed meanwhile, for what it has left.
func (p *Process) beginResume() (ContainerTask, error) {
	task, err := p.container()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.state == deleted:
		return nil, p.notFound()
	case !p.paused:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "it is not paused")
	}
	return task, nil
}

// setPaused ends a pause or a resume, and tells the watchers how the container and its execs are now.
func (p *Process) setPaused(paused bool) {
	p.mu.Lock()
	p.pausing, p.paused = false, paused
	family := []*Process{p}
	for c := range p.children {
		family = append(family, c)
	}
	p.mu.Unlock()
	for _, q := range family {
		p.table.hub.changed(q)
	}
}

// standsStill says whether the process's container is paused. The lock of a container comes before those of its execs.
func (p *Process) standsStill() bool {
	if p.cfg.Parent != nil {
		return p.cfg.Parent.standsStill()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}
