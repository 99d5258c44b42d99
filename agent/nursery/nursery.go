//go:build linux

package nursery

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// Config is what a Nursery needs.
type Config struct {
	Waiter  *pidfd.Waiter // reaps the children; outlives the Nursery
	Logger  *slog.Logger  // nil: nothing is logged
	Cgroup  *os.File      // of processes whose request names none; nil: the agent's. Borrowed until Close
	Rlimits []Rlimit      // of all processes, unless their request says otherwise. RLIMIT_NOFILE is by default 1,024 and 524,288
	Exe     *os.File      // the agent's binary as a sealed memfd; nil: /proc/self/exe, which is copied into one if it is none
	Bound   time.Duration // after this time without a sign of life the nursery is taken for wedged and is killed; 0: 10 s
}

// A Nursery starts processes. Its methods may be called concurrently.
type Nursery struct{}

// A Child is a started process.
type Child struct {
	PID    int                 // in the agent's pid namespace
	PIDFD  *os.File            // the caller closes it, not before Exited has delivered
	Master *os.File            // the terminal's master, or nil; the caller closes it. It is non-blocking
	Exited <-chan pidfd.Status // delivers once; the process is then reaped
}

// Start makes the nursery process. The caller closes the Nursery.
func Start(cfg Config) (*Nursery, error) { return nil, errors.New("not built yet") }

// Close ends the nursery process and joins all that Start began; running Spawns fail with ErrClosed. Processes that were started live on.
func (n *Nursery) Close() error { return nil }

// Spawn starts a process and returns when it executes its program. A process that is killed before that counts as started; its Status tells.
//
// When ctx ends before the program is executed (think of a frozen cgroup), the process is killed and the context's error returned. Other errors are [*ExecError], [ErrInitExited],
// [ErrUnavailable] and [ErrClosed], possibly wrapped, and mean that no process is left.
func (n *Nursery) Spawn(ctx context.Context, req *Request) (*Child, error) {
	return nil, errors.New("not built yet")
}
