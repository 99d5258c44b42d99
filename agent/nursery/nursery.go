//go:build linux

package nursery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/rlimit"
)

const (
	defaultBound = 10 * time.Second
	// attempts is how many nursery processes a request may outlive before it is suspected of killing them.
	attempts = 5
)

// Config is what a Nursery needs.
type Config struct {
	Waiter  *pidfd.Waiter // reaps the children; outlives the Nursery
	Logger  *slog.Logger  // nil: nothing is logged
	Cgroup  *os.File      // of processes whose request names none; nil: the agent's. Borrowed until Close
	Rlimits []Rlimit      // of all processes, unless their request says otherwise; those not named are the agent's. Nil: rlimit.Defaults
	Exe     *os.File      // the agent's binary as a sealed memfd; nil: /proc/self/exe. One that is not sealed is copied. Borrowed until Start returns
	Bound   time.Duration // after this time without a sign of life the nursery is taken for wedged and is killed; 0: 10 s
}

// A Nursery starts processes. Its methods may be called concurrently.
type Nursery struct {
	cfg        Config
	exe        *os.File
	namespaces uint32
	closing    context.Context
	close      context.CancelCauseFunc
	calls      sync.WaitGroup
	done       chan struct{} // closed by supervise when it returns

	mu      sync.Mutex
	closed  bool
	inst    *instance     // nil while there is none
	changed chan struct{} // closed and replaced when inst changes
}

// A Child is a started process.
type Child struct {
	PID    int                 // in the agent's pid namespace
	PIDFD  *os.File            // the caller closes it, not before Exited has delivered
	Master *os.File            // the terminal's master, or nil; the caller closes it. It is non-blocking
	Exited <-chan pidfd.Status // delivers once; the process is then reaped
}

// Start makes the nursery process. The caller closes the Nursery.
func Start(cfg Config) (*Nursery, error) {
	n := &Nursery{cfg: cfg.withDefaults(), namespaces: namespaces(), done: make(chan struct{}), changed: make(chan struct{})}
	n.closing, n.close = context.WithCancelCause(context.Background())
	var err error
	if n.exe, err = sealed(cfg.Exe); err != nil {
		return nil, fmt.Errorf("cannot start nursery: %w", err)
	}
	first, err := n.start()
	if err != nil {
		n.exe.Close()
		return nil, fmt.Errorf("cannot start nursery: %w", err)
	}
	n.set(first)
	go n.supervise(first)
	return n, nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Bound == 0 {
		c.Bound = defaultBound
	}
	if c.Rlimits == nil {
		for _, l := range rlimit.Defaults() {
			c.Rlimits = append(c.Rlimits, Rlimit(l))
		}
	}
	return c
}

// namespaces are the kinds that this kernel has, but for the pid namespace.
func namespaces() uint32 {
	var bits uint32
	for name, bit := range map[string]uint32{
		"cgroup": unix.CLONE_NEWCGROUP, "ipc": unix.CLONE_NEWIPC, "mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET,
		"time": unix.CLONE_NEWTIME, "user": unix.CLONE_NEWUSER, "uts": unix.CLONE_NEWUTS,
	} {
		if _, err := os.Lstat("/proc/self/ns/" + name); err == nil {
			bits |= bit
		}
	}
	return bits
}

// Close ends the nursery process and joins all that Start began; Spawns under way fail with ErrClosed. Processes that were started live on.
func (n *Nursery) Close() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.close(ErrClosed)
	<-n.done
	n.calls.Wait()
	if err := n.exe.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Spawn starts a process and returns when it executes its program. A process that is killed before that counts as started; its Status tells.
//
// When ctx ends before the program is executed (think of a frozen cgroup), the process is killed and the context's cause returned. Other errors are [*ExecError] and those of this
// package, possibly wrapped; they mean that no process is left.
func (n *Nursery) Spawn(ctx context.Context, req *Request) (*Child, error) {
	if err := n.begin(); err != nil {
		return nil, err
	}
	defer n.calls.Done()
	r := *req
	if r.Cgroup == nil {
		r.Cgroup = n.cfg.Cgroup
	}
	m, err := encode(&r, n.namespaces)
	if err != nil {
		return nil, err
	}
	for range attempts {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		child, err := n.attempt(ctx, &r, m)
		if !errors.Is(err, errLost) {
			return child, err
		}
	}
	return nil, ErrUnavailable
}

// begin counts a Spawn in, so that Close can wait for it.
func (n *Nursery) begin() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	n.calls.Add(1)
	return nil
}
