//go:build linux

package extruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/rlimit"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/agent/statistics"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Container is a container that an external runtime made, and the task of its first process.
type Container struct {
	program
	id      string
	spec    *specs.Spec
	group   *cgroup.Group
	init    *ward    // nil until the runtime has made it
	master  *os.File // of the terminal, until Master takes it
	stopOOM func()   // nil before the container is made
}

// Create makes a container with the runtime at path; its first process then waits to be released by Start. If it fails, nothing is left. The context kills the runtime.
func (r *Runtimes) Create(ctx context.Context, path string, req *container.Request) (*Container, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := container.ResolveUser(req.Spec); err != nil {
		return nil, err
	}
	group, err := r.cfg.Cgroups.Make(req.CgroupName())
	if err != nil {
		return nil, err
	}
	c := &Container{program: program{runtimes: r, path: path}, id: req.ID, group: group}
	if err := c.create(ctx, req); err != nil {
		c.undo()
		return nil, err
	}
	return c, nil
}

func (c *Container) create(ctx context.Context, req *container.Request) error {
	var err error
	if c.bundle, err = c.runtimes.makeBundle(); err != nil {
		return fmt.Errorf("cannot make bundle: %w", err)
	}
	c.spec = bundleSpec(req, c.group.Rel())
	if err := writeJSON(filepath.Join(c.bundle, "config.json"), c.spec); err != nil {
		return fmt.Errorf("cannot make bundle: %w", err)
	}
	dir, err := os.MkdirTemp(c.bundle, "")
	if err != nil {
		return fmt.Errorf("cannot make bundle: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, createBound)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	command := &leaving{
		before: []string{"create", "--bundle", c.bundle}, after: []string{c.id},
		stdio: req.Stdio, terminal: c.spec.Process.Terminal, dir: dir,
	}
	if c.init, c.master, err = c.leave(ctx, command); err != nil {
		return failure.Step(c.blame(err), "runtime create")
	}
	c.stopOOM = c.group.WatchOOM(req.OOM)
	c.watch(c.init, 0, req.Exited)
	if c.master != nil && req.Size != nil { // in case that the runtime knows no consoleSize
		if err := process.SetSize(c.master, req.Size); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// blame looks for the program in the container's root.
func (c *Container) blame(err error) error {
	root, rerr := rootfs.Open(c.spec.Root.Path)
	if rerr != nil {
		return err
	}
	defer root.Close()
	return blame(err, root, c.spec.Process)
}

// watch follows a process of the container, and tells its end. ooms is how many had been killed for lack of memory before it began.
func (c *Container) watch(w *ward, ooms uint64, exited func(process.Exit)) {
	c.runtimes.begin(w, func() {
		w.follow(func(e process.Exit) {
			e.OOMKilled = e.Signal == unix.SIGKILL && c.group.OOMKills() > ooms
			exited(e)
		}, func() {
			c.runtimes.cfg.Logger.Error("a process has lost its keeper and is killed", "container", c.id, "pid", w.pid)
		})
	})
}

// specVersion is what a spec says to a runtime. Within version 1 the runtime-spec only adds; and yet crun refuses one that is newer than itself.
const specVersion = "1.0.2"

// bundleSpec is the request's spec as it goes to the runtime: with the size of the terminal, the container's cgroup, and limits in the place of the agent's own.
func bundleSpec(req *container.Request, group string) *specs.Spec {
	spec, proc, linux := *req.Spec, *req.Spec.Process, *req.Spec.Linux
	spec.Version, spec.Process, spec.Linux = specVersion, &proc, &linux
	proc.User.Username = "" // resolved; for Windows in the runtime-spec
	proc.Rlimits = withDefaults(proc.Rlimits)
	linux.CgroupsPath = group
	if req.Size != nil {
		proc.ConsoleSize = box(req.Size)
	}
	return &spec
}

func box(s *pb.Size) *specs.Box {
	return &specs.Box{Width: uint(s.Columns), Height: uint(s.Rows)}
}

// withDefaults adds the limits that are not there.
func withDefaults(limits []specs.POSIXRlimit) []specs.POSIXRlimit {
	limits = slices.Clone(limits)
	for _, d := range rlimit.Defaults() {
		named := slices.ContainsFunc(limits, func(l specs.POSIXRlimit) bool {
			n, _ := rlimit.Number(l.Type)
			return n == d.Resource
		})
		if !named {
			limits = append(limits, specs.POSIXRlimit{Type: rlimit.Name(d.Resource), Soft: d.Soft, Hard: d.Hard})
		}
	}
	return limits
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// Master gives the terminal's master to the caller; nil without a terminal.
func (c *Container) Master() *os.File {
	m := c.master
	c.master = nil
	return m
}

// RuntimePath gives the path of the container's runtime.
func (c *Container) RuntimePath() string { return c.path }

// Start releases the first process to exec its program. The context is looked at before: once begun, the start is not interrupted. A runtime need not tell when its exec
// fails; most look for the program already when they create.
func (c *Container) Start(ctx context.Context, _ *pb.Size) (int, error) {
	if err := c.notFrozen(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createBound)
	defer cancel()
	if err := c.run(ctx, "start", c.id); err != nil {
		return 0, err
	}
	return c.init.pid, nil
}

func (c *Container) notFrozen() error {
	if frozen, _ := c.group.Frozen(); frozen {
		return failure.New(errdefs.ErrFailedPrecondition, "container %s is paused", c.id)
	}
	return nil
}

// Signal has the runtime send to the first process.
func (c *Container) Signal(sig syscall.Signal) error {
	if c.init.ended() {
		return syscall.ESRCH
	}
	ctx, cancel := context.WithTimeout(context.Background(), signalBound)
	defer cancel()
	err := c.run(ctx, "kill", c.id, strconv.Itoa(int(sig)))
	if err != nil && c.init.ended() {
		return syscall.ESRCH
	}
	return err
}

// Pause has the runtime pause the container. The context kills the runtime; after an error the container is resumed, as far as the runtime can, and its cgroup thawed.
func (c *Container) Pause(ctx context.Context) error {
	err := c.freezing(ctx, "pause")
	if err != nil {
		_ = c.Resume(ctx) // it fails if nothing was paused
		err = errors.Join(err, c.group.Resume())
	}
	return err
}

// Resume has the runtime resume the container. Once begun it is not interrupted.
func (c *Container) Resume(ctx context.Context) error {
	return c.freezing(context.WithoutCancel(ctx), "resume")
}

// freezing runs a command that freezes or thaws the container's cgroup, or whatever the runtime has in its place.
func (c *Container) freezing(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, freezeBound)
	defer cancel()
	return c.group.WithFreezer(func() error { return c.run(ctx, command, c.id) })
}

// Update changes the container's resources in the cgroup that the agent has given to the runtime, which need not know of it.
func (c *Container) Update(resources []byte) error {
	return container.Update(c.group, c.spec, resources)
}

// Statistics reads what the container uses, from the cgroup that the agent has given to the runtime.
func (c *Container) Statistics(r *statistics.Reader) (*pb.ContainerStatistics, error) {
	return r.Read(c.group.Path(), func() int {
		if c.init.ended() {
			return 0
		}
		return c.init.pid
	})
}

// SignalAll sends to every process of the container, execs too.
func (c *Container) SignalAll(sig syscall.Signal) error {
	return c.group.Signal(context.Background(), sig)
}

// Delete kills what is left in the container, proves by its empty cgroup that nothing is, and has the runtime delete it. With kill, a runtime that cannot is left aside: what it
// keeps beside the bundle, if anything, stays then.
func (c *Container) Delete(ctx context.Context, kill bool) ([]*pb.Holder, error) {
	if err := c.end(ctx); err != nil {
		return nil, err
	}
	if c.stopOOM != nil {
		c.stopOOM()
		c.stopOOM = nil
	}
	if c.master != nil {
		_ = c.master.Close()
	}
	if err := c.forget(ctx); err != nil {
		if !kill {
			return nil, err
		}
		c.runtimes.cfg.Logger.Warn("a runtime cannot delete its container", "container", c.id, "err", err)
	}
	return nil, errors.Join(c.group.Remove(), os.RemoveAll(c.bundle))
}

// end kills everything in the container, and waits until it is gone.
func (c *Container) end(ctx context.Context) error {
	if err := c.group.Kill(); err != nil {
		return fmt.Errorf("cannot kill: %w", err)
	}
	if c.init != nil {
		_ = c.init.signal(unix.SIGKILL) // a runtime may have made it elsewhere
		if err := c.init.join(ctx, endBound); err != nil {
			return failure.Step(err, "wait for the killed first process")
		}
	}
	return failure.Step(c.group.WaitEmpty(ctx), "wait for the cgroup to be empty")
}

// forget has the runtime delete what it keeps, if it has ever been run.
func (c *Container) forget(ctx context.Context) error {
	if c.bundle == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(c.bundle, "state")); err != nil {
		return nil
	}
	return c.run(ctx, "delete", "--force", c.id)
}

// undo removes what a failed Create left.
func (c *Container) undo() {
	ctx, cancel := context.WithTimeout(context.Background(), undoBound)
	defer cancel()
	if _, err := c.Delete(ctx, true); err != nil {
		c.runtimes.cfg.Logger.Error("cannot remove what a failed create left", "container", c.id, "err", err)
	}
}

// undoBound bounds the removal of what a failed create left.
const undoBound = 30 * time.Second
