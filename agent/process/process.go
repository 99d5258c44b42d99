package process

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// state is where in its life a process is.
type state int

const (
	created state = iota
	starting
	running
	exited
	deleted
)

func (s state) wire() pb.State {
	switch s {
	case created, starting:
		return pb.State_STATE_CREATED
	case running:
		return pb.State_STATE_RUNNING
	}
	return pb.State_STATE_EXITED
}

// Config describes a Process.
type Config struct {
	ID          string
	Parent      *Process // of an exec: its container's first process; nil otherwise
	IsContainer bool
	Terminal    bool
	Size        *pb.Size      // of the terminal at the start; nil: as the kernel makes it
	AwayTimeout time.Duration // how long it lives on without a host; 0: for ever
	Released    func()        // if not nil, called once, when a process that was committed is deleted and holds nothing any more
}

// Process is one process of the guest, from Create to Delete.
type Process struct {
	cfg   Config
	table *Table

	turn   chan struct{} // holds a token while nobody changes the process's life
	exited chan struct{} // closed when exit is set
	gone   chan struct{} // closed when deleted
	ctx    context.Context
	cancel context.CancelFunc // ends drain's wait
	drain  sync.WaitGroup     // the goroutine that reports the drain; begun by finish, joined by release

	// Set by Commit, before anybody else knows the process.
	task  Task
	stdio Stdio

	mu        sync.Mutex
	state     state
	pid       int
	startedAt time.Time
	early     *Exit // came while starting
	exit      *pb.Exited
	failed    error // a failed start, for the waiters
	pausing   bool
	paused    bool               // a container that stands still, with its execs
	interrupt context.CancelFunc // of the Task's Start or Pause
	size      *pb.Size
	alone     *time.Timer // ends it while no host is connected; nil: one is, or the process lives on
	closing   bool        // a container that takes no new execs
	children  map[*Process]struct{}
}

// ID gives the process's id.
func (p *Process) ID() string { return p.cfg.ID }

// IsContainer says whether the process is the first of a container.
func (p *Process) IsContainer() bool { return p.cfg.IsContainer }

// Terminal says whether the process has a terminal.
func (p *Process) Terminal() bool { return p.cfg.Terminal }

// Deleted says whether the process is no more.
func (p *Process) Deleted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == deleted
}

// Execs lists the ids of a container's execs.
func (p *Process) Execs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for c := range p.children {
		ids = append(ids, c.ID())
	}
	return ids
}

// Task gives what the process was committed with.
func (p *Process) Task() Task { return p.task }

// take waits for the turn to change the process's life.
func (p *Process) take(ctx context.Context) error {
	select {
	case <-p.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Process) give() { p.turn <- struct{}{} }

// Start releases the process to exec. A start that fails leaves nothing: the process is deleted, and its waiters get the error. One that the context
// cancelled has not happened.
func (p *Process) Start(ctx context.Context) (*pb.Started, error) {
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	defer p.give()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	size, err := p.beginStart(cancel)
	if err != nil {
		return nil, err
	}
	pid, err := p.task.Start(ctx, size)
	switch {
	case err == nil:
		return p.started(pid, size), nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		p.takeBack()
		return nil, err
	}
	err = failure.Step(err, "start process %s", p.cfg.ID)
	p.discard(err)
	return nil, err
}

// takeBack makes a process whose start was cancelled what it was before, or exited if it has ended meanwhile.
func (p *Process) takeBack() {
	p.mu.Lock()
	p.state, p.startedAt = created, time.Time{}
	early := p.early
	p.mu.Unlock()
	if early != nil {
		p.finish(*early)
	}
}

// beginStart checks that the process may start. interrupt is what a forced delete cancels the start with.
func (p *Process) beginStart(interrupt context.CancelFunc) (*pb.Size, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case created:
		p.state, p.startedAt, p.interrupt = starting, time.Now(), interrupt
		return p.size, nil
	case running:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "process %s is already running", p.cfg.ID)
	case deleted:
		return nil, p.notFound()
	}
	return nil, failure.New(errdefs.ErrFailedPrecondition, "process %s has exited", p.cfg.ID)
}

// started makes the process running, and exited if its end was quicker.
func (p *Process) started(pid int, used *pb.Size) *pb.Started {
	p.mu.Lock()
	p.state, p.pid = running, pid
	early, size := p.early, p.size
	out := &pb.Started{Pid: uint32(pid), StartedAt: uint64(p.startedAt.UnixNano())}
	p.mu.Unlock()
	if size != used { // a resize came while starting
		if err := p.applySize(size); err != nil {
			p.table.log.Warn("cannot set the terminal's size", "process", p.cfg.ID, "err", err)
		}
	}
	p.table.hub.changed(p)
	if early != nil {
		p.finish(*early)
	}
	return out
}

// Exited is told by the Task that the process ended.
func (p *Process) Exited(e Exit) {
	p.mu.Lock()
	if p.state == starting {
		p.early = &e
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.finish(e)
}

// finish makes the process exited, once, and begins to wait for its drain. A process of which nobody knows yet (before Commit) only keeps its exit.
func (p *Process) finish(e Exit) {
	p.mu.Lock()
	if p.exit != nil || p.state == deleted {
		p.mu.Unlock()
		return
	}
	p.exit = p.wireExit(e)
	p.state = exited
	if p.stdio != nil {
		p.startDrain()
	}
	p.mu.Unlock()
	close(p.exited)
	p.table.hub.changed(p)
}

// startDrain begins the goroutine that reports the end of the output. p.mu is held.
func (p *Process) startDrain() {
	p.drain.Go(func() {
		p.stdio.ProcessExited()
		outputs, err := p.stdio.WaitDrained(p.ctx, noBound)
		if err == nil {
			p.table.hub.publish(drainedEvent(p, outputs))
		}
	})
}

func (p *Process) wireExit(e Exit) *pb.Exited {
	out := &pb.Exited{
		Code: int32(e.Code), Signal: uint32(e.Signal), Core: e.Core, OomKilled: e.OOMKilled,
		ExitedAt: uint64(e.At.UnixNano()),
	}
	if !p.startedAt.IsZero() {
		out.StartedAt = uint64(p.startedAt.UnixNano())
	}
	return out
}

// over gives the error of what can't be done to a process that has exited or is deleted; nil for one that lives.
func (p *Process) over() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case exited:
		return p.hasExited()
	case deleted:
		return p.notFound()
	}
	return nil
}

// Signal sends a signal to the process, or with all to everything in its cgroup.
func (p *Process) Signal(sig syscall.Signal, all bool) error {
	if err := p.over(); err != nil {
		return err
	}
	send := p.task.Signal
	if all {
		send = p.task.SignalAll
	}
	err := send(sig)
	if errors.Is(err, syscall.ESRCH) {
		return p.hasExited()
	}
	return err
}

func (p *Process) hasExited() error {
	return failure.New(errdefs.ErrFailedPrecondition, "process %s has exited", p.cfg.ID)
}

func (p *Process) notFound() error {
	return failure.New(errdefs.ErrNotFound, "process %s does not exist", p.cfg.ID)
}

// Info describes the process as it is now.
func (p *Process) Info() *pb.ProcessInfo {
	streams, still := p.stdio.Info(), p.standsStill() // these have locks of their own
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &pb.ProcessInfo{
		Id: p.cfg.ID, IsContainer: p.cfg.IsContainer, Terminal: p.cfg.Terminal,
		State: p.state.wire(), Pid: uint32(p.pid), Exited: p.exit, Streams: streams,
	}
	if still && p.state == running {
		out.State = pb.State_STATE_PAUSED
	}
	if p.cfg.Parent != nil {
		out.Container = p.cfg.Parent.ID()
	}
	return out
}
