//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	_ "github.com/opencontainers/cgroups/devices" // device rules fail without it
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/hook"
	"github.com/bellhop-vm/bellhop/agent/initfilter"
	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/agent/speccheck"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Config is what a Runtime needs.
type Config struct {
	StateDir string        // libcontainer's state, one directory for each container; made if missing
	Roots    string        // empty roots, for those that need no other; made if missing
	Cgroups  *cgroup.Tree  // where containers live
	Waiter   *pidfd.Waiter // reaps their first processes; outlives the Runtime
	Spawner  hook.Spawner  // starts hooks; outlives the Runtime
	Profiles *Profiles     // of the specs
	Logger   *slog.Logger  // required
}

// Runtime makes containers.
type Runtime struct {
	cfg   Config
	turns turns
}

// NewRuntime makes a Runtime. It sets two things of libraries for the whole program. Libcontainer's own log is turned down to errors: what it has to say comes back as errors, and the rest would reach
// the guest's console. And the netlink sockets with which it moves interfaces are those of rtnetlink(7) only: it asks for every family, of which a guest's kernel need not have them all.
func NewRuntime(cfg Config) *Runtime {
	logrus.SetLevel(logrus.ErrorLevel)
	nl.SupportedNlFamilies = []int{unix.NETLINK_ROUTE}
	return &Runtime{cfg: cfg, turns: newTurns()}
}

// Request says what to make.
type Request struct {
	ID      string
	Spec    *specs.Spec        // checked by ParseSpec
	BuiltIn pb.BuiltIn         // the first process, with which the spec was checked
	Stdio   [3]*os.File        // borrowed until Create returns; unused with a terminal
	Size    *pb.Size           // of the terminal at first; nil: the spec's
	Exited  func(process.Exit) // called once when the first process has ended; also before Create returns
	OOM     func()             // called each time that a process of the container was killed for lack of memory
}

// Create makes the container, whose first process then waits to be released by Start. If it fails, nothing is left. When the
// context ends, what libcontainer has made so far is killed; a hook that runs outside the container ends first.
func (r *Runtime) Create(ctx context.Context, req *Request) (*Container, error) {
	if req.Spec.Root != nil {
		return r.createIn(ctx, req, "")
	}
	empty, err := r.makeRoot(req.ID)
	if err != nil {
		return nil, err
	}
	req.Spec.Root = &specs.Root{Path: empty, Readonly: true}
	c, err := r.createIn(ctx, req, empty)
	if err != nil {
		_ = os.RemoveAll(empty)
	}
	return c, err
}

// createIn makes the container, whose root is the given empty one, or another if that is "".
func (r *Runtime) createIn(ctx context.Context, req *Request, empty string) (*Container, error) {
	if err := r.check(req); err != nil {
		return nil, err
	}
	filter, err := r.cfg.Profiles.filter(req.Spec.Linux.Seccomp) // of use to execs, too, and says now what cannot be had
	if err != nil {
		return nil, err
	}
	cfg, err := r.newConfig(req.ID, req.Spec, !filter.suits)
	if err != nil {
		return nil, err
	}
	lp, err := newProcess(req)
	if err != nil {
		return nil, err
	}
	if empty != "" {
		if err := giveRoot(empty, cfg); err != nil {
			return nil, err
		}
	}
	group, err := r.cfg.Cgroups.Make(req.CgroupName())
	if err != nil {
		return nil, err
	}
	cfg.Cgroups.Path = group.Rel() // relative to the mount of the hierarchy, and absolute
	c := &Container{
		id: req.ID, spec: req.Spec, builtIn: req.BuiltIn, emptyRoot: empty, group: group, log: r.cfg.Logger, spawner: r.cfg.Spawner, notify: req.Exited,
		fifo: filepath.Join(r.cfg.StateDir, req.ID, "exec.fifo"), seccomp: filter, done: make(chan struct{}),
	}
	err = r.create(ctx, c, req, cfg, lp)
	if ctx.Err() != nil {
		err = ctx.Err() // whatever came of it: the container may have been killed
	}
	if err != nil {
		c.undo()
		return nil, speccheck.Explain(req.Spec, err)
	}
	return c, nil
}

// check checks the spec against the guest, and looks up its user.
func (r *Runtime) check(req *Request) error {
	if err := ResolveUser(req.Spec); err != nil {
		return err
	}
	return speccheck.Kernel(req.Spec, r.cfg.Cgroups.Path())
}

// CgroupName is the spec's path, beneath the agent's root also where it is absolute, or the id.
func (r *Request) CgroupName() string {
	if p := r.Spec.Linux.CgroupsPath; p != "" {
		return p
	}
	return r.ID
}

// ResolveUser puts numbers in the place of a user's name, and refuses a root that is not there.
func ResolveUser(spec *specs.Spec) error {
	root, err := rootfs.Open(spec.Root.Path)
	if err != nil {
		return failure.Field("root.path", "%v", err)
	}
	defer root.Close()
	u := &spec.Process.User
	if u.Username == "" {
		return nil
	}
	found, err := root.LookupUser(u.Username)
	if err != nil {
		return failure.Step(err, "user %s", u.Username)
	}
	u.UID, u.GID = found.UID, found.GID
	u.AdditionalGids = append(found.Groups, u.AdditionalGids...)
	return nil
}

func (r *Runtime) create(ctx context.Context, c *Container, req *Request, cfg *configs.Config, lp *libcontainer.Process) error {
	c.memory = cfg.MemoryPolicy
	refusal := watchProgram(cfg, req)
	files, err := newInitFiles(lp, cfg, req, c.seccomp.suits)
	if err != nil {
		return err
	}
	defer files.close()
	done, err := r.turns.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	defer c.followHooks(cfg, done)()
	defer c.killWith(ctx)()
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.lc, err = libcontainer.Create(r.cfg.StateDir, req.ID, cfg); err != nil {
		return fmt.Errorf("libcontainer: %w", err)
	}
	if err := c.lc.Start(lp); err != nil {
		if *refusal != nil {
			return *refusal
		}
		return fmt.Errorf("libcontainer: %w", err)
	}
	c.report, c.status = files.take()
	c.stopOOM = c.group.WatchOOM(req.OOM)
	if err := c.watch(lp, r.cfg.Waiter); err != nil {
		return err
	}
	if c.seccomp.suits {
		if err := initfilter.Install(c.report, c.seccomp.Filter); err != nil {
			return failure.Step(err, "install the seccomp filter")
		}
	}
	if req.Spec.Process.Terminal {
		if c.master, err = files.receiveMaster(); err != nil {
			return err
		}
	}
	return nil
}

// watch opens the pidfd of the first process and waits for its end. The process is this one's child, so its pid is its own until it is reaped.
func (c *Container) watch(lp *libcontainer.Process, w *pidfd.Waiter) error {
	pid, err := lp.Pid()
	if err != nil {
		return err
	}
	f, err := pidfd.Open(pid)
	if err != nil {
		return err
	}
	c.pid, c.pidfd = pid, f
	if err := w.Add(pid, f, c.ended); err != nil {
		return errors.Join(err, f.Close())
	}
	c.watched = true
	return nil
}
