package process

import (
	"context"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// deleteBound bounds the end of a delete that has begun to kill: after that it is an error, and can be repeated.
const deleteBound = 30 * time.Second

// Delete forgets the process and frees what it holds. A running one, and a container with live execs, need force. After the first irreversible step
// the context cannot stop it. The holders are descendants of an exec that survive it.
func (p *Process) Delete(ctx context.Context, force bool) ([]*pb.Holder, error) {
	survivors, err := p.delete(ctx, force)
	return survivors, failure.Step(err, "delete process %s", p.cfg.ID)
}

func (p *Process) delete(ctx context.Context, force bool) ([]*pb.Holder, error) {
	if force {
		p.interruptTurn()
	}
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	defer p.give()
	children, err := p.beginDelete(force)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteBound)
	defer cancel()
	survivors, err := p.task.Delete(ctx, force)
	if err == nil {
		err = deleteAll(ctx, children)
	}
	if err != nil {
		p.mu.Lock()
		p.closing = false
		p.mu.Unlock()
		return nil, err
	}
	p.release(nil)
	return survivors, nil
}

// interruptTurn ends a start or a pause that is going on, and may otherwise do so for as long as the container's hooks or its freezer like.
func (p *Process) interruptTurn() {
	p.mu.Lock()
	busy, interrupt := p.state == starting || p.pausing, p.interrupt
	p.mu.Unlock()
	if !busy {
		return
	}
	interrupt()
	_ = p.task.Signal(syscall.SIGKILL) // there may be nothing to kill yet: then the context does it
}

// beginDelete checks that the process may be deleted, and shuts a container to new execs.
func (p *Process) beginDelete(force bool) ([]*Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.state == deleted:
		return nil, p.notFound()
	case p.state == running && !force:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "it is running")
	}
	var children []*Process
	for c := range p.children {
		if !force && c.alive() {
			return nil, failure.New(errdefs.ErrFailedPrecondition, "process %s still runs in it", c.ID())
		}
		children = append(children, c)
	}
	p.closing = true
	return children, nil
}

// CloseStdio ends the relay of the process's bytes, when the agent ends.
func (p *Process) CloseStdio() error {
	p.cancel()
	err := p.stdio.Close()
	p.drain.Wait()
	return err
}

// alive says whether the process runs or is about to.
func (p *Process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == starting || p.state == running
}

// deleteAll deletes the execs of a container whose cgroup is empty by now.
func deleteAll(ctx context.Context, execs []*Process) error {
	for _, c := range execs {
		if _, err := c.Delete(ctx, true); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// discard deletes a process whose start failed with err. The turn is held.
func (p *Process) discard(err error) {
	ctx, cancel := context.WithTimeout(context.Background(), deleteBound)
	defer cancel()
	if _, derr := p.task.Delete(ctx, true); derr != nil {
		p.table.log.Warn("cannot remove what a failed start left", "process", p.cfg.ID, "err", derr)
	}
	p.release(err)
}

// release ends the process's life: waiters are released, stdio is closed, the id is free. failed is the error of a failed start.
func (p *Process) release(failed error) {
	p.mu.Lock()
	p.state, p.failed = deleted, failed
	p.stopAlone()
	if p.exit == nil {
		e := p.wireExit(killedBeforeStart())
		e.StartedAt = 0
		p.exit = e
	}
	p.mu.Unlock()
	close(p.gone)
	p.cancel()
	if err := p.stdio.Close(); err != nil {
		p.table.log.Warn("cannot close stdio", "process", p.cfg.ID, "err", err)
	}
	p.drain.Wait()
	if p.cfg.Released != nil {
		p.cfg.Released()
	}
	if p.cfg.Parent != nil {
		p.cfg.Parent.disown(p)
	}
	p.table.remove(p)
	p.table.hub.publish(deletedEvent(p))
}

// adopt makes c an exec of the container p.
func (p *Process) adopt(c *Process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing || p.state == exited || p.state == deleted {
		return failure.New(errdefs.ErrFailedPrecondition, "container %s has exited or is being deleted", p.cfg.ID)
	}
	if p.children == nil {
		p.children = make(map[*Process]struct{})
	}
	p.children[c] = struct{}{}
	return nil
}

func (p *Process) disown(c *Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.children, c)
}
