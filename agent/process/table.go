package process

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
)

// Table names the guest's processes.
type Table struct {
	log *slog.Logger
	hub *Hub

	mu       sync.Mutex
	reserved map[string]struct{} // being created
	procs    map[string]*Process
	away     bool // no host is connected
}

// NewTable makes an empty table.
func NewTable(log *slog.Logger) *Table {
	t := &Table{log: log, reserved: make(map[string]struct{}), procs: make(map[string]*Process)}
	t.hub = newHub(t)
	return t
}

// Hub tells what happens to the processes.
func (t *Table) Hub() *Hub { return t.hub }

// Reserve takes an id for a process that is being created. Commit or Abandon must follow.
func (t *Table) Reserve(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, creating := t.reserved[id]
	_, exists := t.procs[id]
	switch {
	case creating, exists:
		return failure.New(errdefs.ErrAlreadyExists, "process %s exists", id)
	case len(t.reserved)+len(t.procs) >= protocol.MaxProcesses:
		return failure.New(errdefs.ErrResourceExhausted, "%d processes exist, no more are allowed", protocol.MaxProcesses)
	}
	t.reserved[id] = struct{}{}
	return nil
}

// Abandon gives a reserved id back.
func (t *Table) Abandon(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.reserved, id)
}

// New makes a process under a reserved id. Nobody finds it before Commit.
func (t *Table) New(cfg Config) *Process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{
		cfg: cfg, table: t, size: cfg.Size, ctx: ctx, cancel: cancel,
		turn: make(chan struct{}, 1), exited: make(chan struct{}), gone: make(chan struct{}),
	}
	p.give()
	return p
}

// Commit makes the process exist, with its task and stdio: from here Delete frees both. If it fails, they stay the caller's.
func (t *Table) Commit(p *Process, task Task, stdio Stdio) error {
	if p.cfg.Parent != nil {
		if err := p.cfg.Parent.adopt(p); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.task, p.stdio = task, stdio
	if p.exit != nil { // it did not live so long
		p.startDrain()
	}
	p.mu.Unlock()
	t.mu.Lock()
	delete(t.reserved, p.cfg.ID)
	t.procs[p.cfg.ID] = p
	if t.away {
		p.setAway(true)
	}
	t.mu.Unlock()
	t.hub.changed(p)
	return nil
}

// Get finds a process by its id.
func (t *Table) Get(id string) (*Process, error) {
	if err := protocol.CheckID(id); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.procs[id]
	if !ok {
		return nil, failure.New(errdefs.ErrNotFound, "process %s does not exist", id)
	}
	return p, nil
}

// All lists the processes, sorted by id.
func (t *Table) All() []*Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*Process, 0, len(t.procs))
	for _, p := range t.procs {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Process) int { return strings.Compare(a.cfg.ID, b.cfg.ID) })
	return all
}

func (t *Table) remove(p *Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.procs[p.cfg.ID] == p {
		delete(t.procs, p.cfg.ID)
	}
}
