//go:build linux

package container

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/hook"
	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/statistics"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// maxReport bounds what is read of a failed execve's text, in bytes.
const maxReport = 4096

// Container is a container and the task of its first process.
type Container struct {
	id      string
	spec    *specs.Spec
	builtIn pb.BuiltIn
	group   *cgroup.Group
	log     *slog.Logger
	spawner hook.Spawner
	notify  func(process.Exit)
	fifo    string // libcontainer's exec fifo
	seccomp filter
	memory  *configs.LinuxMemoryPolicy // nil: none

	lc        *libcontainer.Container
	pid       int
	pidfd     *os.File      // closed by Delete, after done
	report    *os.File      // read end of the pipe of Init; closed by Start or Delete
	status    *os.File      // of a built-in process; nil without
	emptyRoot string        // made for it, if not empty
	master    *os.File      // of the terminal, until Master takes it
	stopOOM   func()        // nil before the container is made
	watched   bool          // done will be closed
	done      chan struct{} // closed when the first process is reaped and notify has returned

	mu   sync.Mutex
	gone bool // reaped: the pidfd must not be used any more
}

// Master gives the terminal's master to the caller; nil without a terminal.
func (c *Container) Master() *os.File {
	m := c.master
	c.master = nil
	return m
}

// Start releases the first process to exec its program and waits until it has or has failed to.
func (c *Container) Start(ctx context.Context, size *pb.Size) (int, error) {
	if err := c.notFrozen(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	// From here it is released. Init waits for a reader, writes a byte and goes on; opened so, the reader needs no partner, so a dead init holds nobody.
	fifo, err := os.OpenFile(c.fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot release the process: %w", err)
	}
	defer fifo.Close()
	if err := c.awaitExecve(); err != nil {
		return 0, err
	}
	if n, _ := fifo.Read(make([]byte, 1)); n == 0 {
		return 0, failure.New(errdefs.ErrFailedPrecondition, "the container's first process was killed before it started")
	}
	if err := os.Remove(c.fifo); err != nil {
		return 0, err
	}
	return c.pid, c.poststart(ctx)
}

// awaitExecve waits until init has run the container's startContainer hooks and has become the program.
func (c *Container) awaitExecve() error {
	var bound time.Duration
	if h := c.spec.Hooks; h != nil {
		bound = containerHooksBound(h.StartContainer)
	}
	stop := c.killAfter(bound)
	text, err := io.ReadAll(io.LimitReader(c.report, maxReport)) // ends with the execve, or with the process
	_ = c.report.Close()
	switch {
	case stop():
		return failure.New(context.DeadlineExceeded, "the startContainer hooks took longer than %v", bound)
	case err != nil:
		return fmt.Errorf("cannot read how the execve went: %w", err)
	case len(text) > 0:
		return reported(c.spec.Process.Args[0], strings.TrimSpace(string(text)))
	}
	return nil
}

// ended is called by the waiter.
func (c *Container) ended(s pidfd.Status) {
	e := process.Exit{Code: s.Code, Signal: s.Signal, Core: s.Core, At: time.Now()}
	if s.Err != nil {
		c.log.Error("a container's exit status is lost", "container", c.id, "err", s.Err)
		e.Code = 255
	}
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	if c.status != nil {
		e = programExit(e, c.status)
	}
	e.OOMKilled = e.Signal == unix.SIGKILL && c.group.OOMKills() > 0
	c.notify(e)
	close(c.done)
}

// Signal sends to the first process.
func (c *Container) Signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return syscall.ESRCH
	}
	return pidfd.Signal(c.pidfd, sig)
}

// SignalAll sends to every process of the container, execs too. A built-in init is left out, unless all are killed: it would pass the signal on to a program that has it already.
func (c *Container) SignalAll(sig syscall.Signal) error {
	if c.builtIn == pb.BuiltIn_BUILT_IN_INIT {
		return c.group.Signal(context.Background(), sig, c.pid)
	}
	return c.group.Signal(context.Background(), sig)
}

// Pause stops every process of the container, execs too. See cgroup.Group.Pause.
func (c *Container) Pause(ctx context.Context) error { return c.group.Pause(ctx) }

// Resume lets them go on.
func (c *Container) Resume(context.Context) error { return c.group.Resume() }

// Update changes the container's resources. See Update.
func (c *Container) Update(resources []byte) error { return Update(c.group, c.spec, resources) }

// Statistics reads what the container uses.
func (c *Container) Statistics(r *statistics.Reader) (*pb.ContainerStatistics, error) {
	return r.Read(c.group.Path(), func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.gone {
			return 0
		}
		return c.pid
	})
}

// Delete kills what is left in the container and removes it. That nothing is left is proven by its empty cgroup.
func (c *Container) Delete(ctx context.Context, _ bool) ([]*pb.Holder, error) {
	if err := c.group.Kill(); err != nil {
		return nil, fmt.Errorf("cannot kill: %w", err)
	}
	if c.watched {
		select {
		case <-c.done:
		case <-ctx.Done():
			return nil, failure.Step(ctx.Err(), "wait for the killed first process")
		}
	}
	if err := c.group.WaitEmpty(ctx); err != nil {
		return nil, failure.Step(err, "wait for the cgroup to be empty")
	}
	if err := c.destroy(); err != nil {
		return nil, err
	}
	return nil, c.group.Remove()
}

// destroy frees what libcontainer holds, and runs the poststop hooks.
func (c *Container) destroy() error {
	if c.stopOOM != nil {
		c.stopOOM()
		c.stopOOM = nil
	}
	if c.report != nil {
		_ = c.report.Close() // may be closed already
	}
	if c.master != nil {
		_ = c.master.Close()
	}
	if c.lc != nil {
		state, err := c.stoppedState()
		if err != nil {
			return err
		}
		if err := c.lc.Destroy(); err != nil {
			return err
		}
		c.lc = nil
		c.poststop(state)
	}
	for _, f := range []*os.File{c.pidfd, c.status} {
		if f != nil {
			_ = f.Close()
		}
	}
	if c.emptyRoot != "" {
		return os.RemoveAll(c.emptyRoot)
	}
	return nil
}

// undo removes what a failed Create left.
func (c *Container) undo() {
	ctx, cancel := context.WithTimeout(context.Background(), undoBound)
	defer cancel()
	if _, err := c.Delete(ctx, true); err != nil {
		c.log.Error("cannot remove what a failed create left", "container", c.id, "err", err)
	}
}

// undoBound bounds the removal of what a failed create left.
const undoBound = 10 * time.Second
