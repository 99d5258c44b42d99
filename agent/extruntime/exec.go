//go:build linux

package extruntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/agent/spawn"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Exec is the task of a further process in a container, made by the runtime's exec.
type Exec struct {
	c      *Container
	id     string
	spec   *specs.Process
	exited func(process.Exit)
	stdio  spawn.Stdio

	mu   sync.Mutex
	ward *ward // nil before Start and when it failed
}

// Exec prepares a process. Its exited is called once when the process has ended.
func (c *Container) Exec(id string, p *pb.Process, exited func(process.Exit)) (*Exec, error) {
	spec, err := execSpec(p, c.spec.Process, c.root)
	if err != nil {
		return nil, err
	}
	return &Exec{c: c, id: id, spec: spec, exited: exited}, nil
}

// root opens the root of the running container, with its mounts.
func (c *Container) root() (*rootfs.Dir, error) {
	pidfd, err := c.init.dup()
	if err == nil {
		defer pidfd.Close()
		var root *rootfs.Dir
		if root, err = rootfs.OfProcess(c.init.pid, pidfd); err == nil {
			return root, nil
		}
	}
	if c.init.ended() {
		return nil, c.hasExited()
	}
	return nil, fmt.Errorf("cannot enter container %s: %w", c.id, err)
}

// Init gives the pid of the first process, and a pidfd, which the caller closes. FAILED_PRECONDITION: it has ended.
func (c *Container) Init() (pid int, file *os.File, err error) {
	file, err = c.init.dup()
	if errors.Is(err, unix.ESRCH) {
		err = c.hasExited()
	}
	return c.init.pid, file, err
}

func (c *Container) hasExited() error {
	return failure.New(errdefs.ErrFailedPrecondition, "container %s has exited", c.id)
}

// Prepare has nothing to do: the runtime prepares the process.
func (t *Exec) Prepare() error { return nil }

// SetStdio gives the process its stdio. It comes before Start.
func (t *Exec) SetStdio(s spawn.Stdio) { t.stdio = s }

// Start has the runtime execute the process and waits until it has.
func (t *Exec) Start(ctx context.Context, size *pb.Size) (int, error) {
	ooms := t.c.group.OOMKills()
	w, master, err := t.exec(ctx, size)
	if err != nil {
		return 0, err
	}
	if master != nil {
		t.stdio.StartTerminal(master)
	} else {
		t.stdio.Start()
	}
	t.mu.Lock()
	t.ward = w
	t.mu.Unlock()
	t.c.watch(w, ooms, t.exited)
	return w.pid, nil
}

func (t *Exec) exec(ctx context.Context, size *pb.Size) (*ward, *os.File, error) {
	if t.c.init.ended() {
		return nil, nil, t.c.hasExited()
	}
	if err := t.c.notFrozen(); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(t.c.bundle, "")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot describe the process: %w", err)
	}
	defer os.RemoveAll(dir)
	command, err := t.command(dir, size)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, createBound)
	defer cancel()
	w, master, err := t.c.leave(ctx, command)
	if err != nil {
		return nil, nil, failure.Step(t.blame(err), "runtime exec")
	}
	if master != nil && size != nil {
		if err := process.SetSize(master, size); err != nil {
			t.c.runtimes.cfg.Logger.Warn("cannot set the terminal's size", "process", t.id, "err", err)
		}
	}
	return w, master, nil
}

// command writes what the runtime reads.
func (t *Exec) command(dir string, size *pb.Size) (*leaving, error) {
	spec := *t.spec
	if size != nil && spec.Terminal {
		spec.ConsoleSize = box(size)
	}
	file := filepath.Join(dir, "process.json")
	if err := writeJSON(file, &spec); err != nil {
		return nil, fmt.Errorf("cannot describe the process: %w", err)
	}
	command := &leaving{before: []string{"exec", "--detach", "--process", file}, after: []string{t.c.id}, terminal: spec.Terminal, dir: dir}
	if spec.Terminal {
		return command, nil
	}
	var err error
	if command.stdio, err = t.stdio.ChildFiles(); err != nil {
		return nil, fmt.Errorf("cannot make stdio: %w", err)
	}
	return command, nil
}

// blame looks for what the container's end or a missing program explains.
func (t *Exec) blame(err error) error {
	root, rerr := t.c.root()
	if rerr != nil {
		if t.c.init.ended() {
			return rerr
		}
		return err
	}
	defer root.Close()
	return blame(err, root, t.spec)
}

// Signal sends to the process. The runtime's kill would send to the container's first one.
func (t *Exec) Signal(sig syscall.Signal) error {
	w := t.started()
	if w == nil {
		return failure.New(errdefs.ErrFailedPrecondition, "process %s has not been started", t.id)
	}
	return w.signal(sig)
}

func (t *Exec) started() *ward {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ward
}

// SignalAll is refused.
func (t *Exec) SignalAll(syscall.Signal) error {
	return failure.New(errdefs.ErrInvalidArgument, "process %s has no cgroup of its own: signal its container", t.id)
}

// Delete ends the process and waits for its end, and names the descendants that live on in the container.
func (t *Exec) Delete(ctx context.Context, kill bool) ([]*pb.Holder, error) {
	w := t.started()
	if w == nil {
		return nil, nil
	}
	var family *spawn.Family
	if kill {
		if pids, err := t.c.group.PIDs(); err == nil {
			family = spawn.FindFamily(w.pid, pids)
			defer family.Close()
		}
		if err := w.signal(unix.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return nil, fmt.Errorf("cannot kill: %w", err)
		}
	}
	if err := w.join(ctx, endBound); err != nil {
		return nil, failure.Step(err, "wait for the killed process")
	}
	return family.Survivors(), nil
}
