//go:build linux

package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Spawner forks processes: a *nursery.Nursery.
type Spawner interface {
	Spawn(ctx context.Context, req *nursery.Request) (*nursery.Child, error)
}

// Stdio gives the process its files and takes them over: a *relay.Set.
type Stdio interface {
	ChildFiles() ([3]*os.File, error)
	Start()
	StartTerminal(master *os.File)
}

// Config describes a process to be.
type Config struct {
	ID        string
	Process   *pb.Process
	Container *container.Container // nil: in the guest's own root, with a cgroup of its own
	Cgroups   *cgroup.Tree         // for processes outside containers
	Spawner   Spawner
	Exited    func(process.Exit) // called once when the process has ended
}

// Task is a process.Task.
type Task struct {
	cfg   Config
	req   *nursery.Request // all but what Start opens
	group *cgroup.Group    // outside containers, from Prepare on
	stdio Stdio

	mu    sync.Mutex
	child *nursery.Child // nil before Start and when it failed
	gone  bool           // reaped
	done  chan struct{}  // closed when the process is reaped and Exited has returned; nil before Start
}

// New checks the process, as far as that needs no look at the guest. Delete frees the task.
func New(cfg Config) (*Task, error) {
	req, err := newRequest(cfg.Process, cfg.Container)
	if err != nil {
		return nil, err
	}
	return &Task{cfg: cfg, req: req}, nil
}

// Prepare resolves the process's user, and outside containers makes its cgroup. It comes before Start, and takes about as long as to connect stdio, so that both are done at once.
func (t *Task) Prepare() error {
	err := resolveUser(t.req, t.cfg.Process, t.cfg.Container)
	if err == nil && t.cfg.Container == nil {
		t.group, err = t.cfg.Cgroups.Make(t.cfg.ID)
	}
	return err
}

// SetStdio gives the process its stdio. It comes before Start.
func (t *Task) SetStdio(s Stdio) { t.stdio = s }

// Start forks the process and waits until it executes its program.
func (t *Task) Start(ctx context.Context, size *pb.Size) (int, error) {
	child, ooms, err := t.spawn(ctx, size)
	if err != nil {
		return 0, explain(err)
	}
	if t.cfg.Process.Terminal {
		t.stdio.StartTerminal(child.Master)
	} else {
		t.stdio.Start()
	}
	t.mu.Lock()
	t.child, t.done = child, make(chan struct{})
	t.mu.Unlock()
	go t.follow(child, ooms)
	return child.PID, nil
}

// spawn also gives the number of processes that were killed for lack of memory before.
func (t *Task) spawn(ctx context.Context, size *pb.Size) (*nursery.Child, uint64, error) {
	req := *t.req
	if size != nil {
		req.Size = nursery.Size{Columns: uint16(size.Columns), Rows: uint16(size.Rows)}
	}
	if !req.Terminal {
		var err error
		if req.Stdio, err = t.stdio.ChildFiles(); err != nil {
			return nil, 0, fmt.Errorf("cannot make stdio: %w", err)
		}
	}
	place, err := t.open(&req)
	if err != nil {
		return nil, 0, err
	}
	defer place.Close()
	ooms := t.ooms()
	child, err := t.cfg.Spawner.Spawn(ctx, &req)
	return child, ooms, err
}

// open finds the place of the process: the container's namespaces and cgroup, or the cgroup of its own. The caller closes it.
func (t *Task) open(req *nursery.Request) (*container.Entry, error) {
	if t.group != nil {
		dir, err := t.group.Open()
		req.Cgroup = dir
		return &container.Entry{Cgroup: dir}, err
	}
	e, err := t.cfg.Container.Enter()
	if err != nil {
		return nil, err
	}
	req.Init, req.Cgroup = e.Init, e.Cgroup
	return e, nil
}

func (t *Task) ooms() uint64 {
	if t.group != nil {
		return t.group.OOMKills()
	}
	return t.cfg.Container.OOMKills()
}

// follow waits for the end. It is joined by Delete, which waits for done.
func (t *Task) follow(child *nursery.Child, oomsBefore uint64) {
	s := <-child.Exited
	e := process.Exit{Code: s.Code, Signal: s.Signal, Core: s.Core, At: time.Now()}
	if s.Err != nil {
		e.Code = 255
	}
	e.OOMKilled = s.Signal == unix.SIGKILL && t.ooms() > oomsBefore
	t.mu.Lock()
	t.gone = true
	_ = child.PIDFD.Close()
	t.mu.Unlock()
	t.cfg.Exited(e)
	close(t.done)
}

// Signal sends to the process.
func (t *Task) Signal(sig syscall.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.child == nil:
		return failure.New(errdefs.ErrFailedPrecondition, "process %s has not been started", t.cfg.ID)
	case t.gone:
		return syscall.ESRCH
	}
	return pidfd.Signal(t.child.PIDFD, sig)
}

// SignalAll sends to the process and its descendants, outside containers.
func (t *Task) SignalAll(sig syscall.Signal) error {
	if t.group == nil {
		return failure.New(errdefs.ErrInvalidArgument, "process %s has no cgroup of its own: signal its container", t.cfg.ID)
	}
	return t.group.Signal(context.Background(), sig)
}

// Delete kills what is left. Outside containers an empty cgroup proves it. In a container the process itself is reaped, and descendants that live on are named.
func (t *Task) Delete(ctx context.Context, kill bool) ([]*pb.Holder, error) {
	if t.group != nil {
		return nil, t.deleteGroup(ctx)
	}
	var family *Family
	if kill {
		family = t.family()
		defer family.Close()
		if err := t.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) && !errdefs.IsFailedPrecondition(err) {
			return nil, fmt.Errorf("cannot kill: %w", err)
		}
	}
	if err := t.wait(ctx); err != nil {
		return nil, err
	}
	return family.Survivors(), nil
}

func (t *Task) deleteGroup(ctx context.Context) error {
	if err := t.group.Kill(); err != nil {
		return fmt.Errorf("cannot kill: %w", err)
	}
	if err := t.wait(ctx); err != nil {
		return err
	}
	if err := t.group.WaitEmpty(ctx); err != nil {
		return failure.Step(err, "wait for the cgroup to be empty")
	}
	return t.group.Remove()
}

// family finds the descendants of a process in a container.
func (t *Task) family() *Family {
	t.mu.Lock()
	child := t.child
	t.mu.Unlock()
	if child == nil {
		return nil
	}
	pids, err := t.cfg.Container.PIDs()
	if err != nil {
		return nil
	}
	return FindFamily(child.PID, pids)
}

// wait waits until the process, if it ever was, is reaped.
func (t *Task) wait(ctx context.Context) error {
	t.mu.Lock()
	done := t.done
	t.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return failure.Step(ctx.Err(), "wait for the killed process")
	}
}

// explain gives the nursery's errors their codes.
func explain(err error) error {
	var e *nursery.ExecError
	switch {
	case errors.As(err, &e) && e.Step == nursery.StepExec:
		return failure.Step(failure.Exec(e.Errno), "%s %s", e.Step, e.Detail)
	case errors.As(err, &e) && e.Detail != "":
		return failure.Step(failure.Errno(errdefs.ErrInvalidArgument, e.Errno), "%s %s", e.Step, e.Detail)
	case errors.As(err, &e):
		return failure.Step(failure.Errno(errdefs.ErrInvalidArgument, e.Errno), "%s", e.Step)
	case errors.Is(err, nursery.ErrInitExited):
		return failure.New(errdefs.ErrFailedPrecondition, "the container has exited")
	case errors.Is(err, nursery.ErrUnavailable), errors.Is(err, nursery.ErrClosed):
		return failure.New(errdefs.ErrUnavailable, "%v", err)
	}
	return err
}
