//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/agent/extruntime"
	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/relay"
	"github.com/bellhop-vm/bellhop/agent/repeat"
	"github.com/bellhop-vm/bellhop/agent/rootstore"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// DefaultStateDir is where containers' state is kept: on a tmpfs, since it is worth nothing after a boot.
const DefaultStateDir = "/run/bellhop"

// Config describes an Agent. Dial, Instance and CgroupRoot are required.
type Config struct {
	Dial       relay.Dial           // connects to a port of the host
	AllowPeer  func(net.Addr) error // says why a peer may not connect; nil allows all
	CgroupRoot string               // beneath which containers go, relative to the cgroup mount, with a slash: "/bellhop"
	StateDir   string               // empty: DefaultStateDir; made if missing
	Logger     *slog.Logger         // nil: nothing is logged
	Instance   [16]byte             // names this life of the agent
	Software   string               // for hello and info: "bellhopd 0.1.0"
	PID1       bool                 // the agent is the child of Bellhop's own PID 1
	Timeline   Timeline
	Exe        *os.File // the agent's binary, sealed; nil: /proc/self/exe. Borrowed
}

// Timeline has moments of the boot on CLOCK_BOOTTIME; zero is unknown.
type Timeline struct {
	Init   time.Duration // PID 1's first instruction
	Main   time.Duration // the agent's main
	Listen time.Duration // the control port listens; zero: when Serve begins
}

// The errors with which Serve ends when a client asked the guest to.
var (
	ErrPowerOff = errors.New("a client asked for the guest to power off")
	ErrReboot   = errors.New("a client asked for the guest to reboot")
)

// Agent does the operations of control connections.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	server  *control.Server
	repeats *repeat.Log
	table   *process.Table
	budget  *relay.Budget
	tasks   tasks
	roots   *rootstore.Store

	profiles *container.Profiles

	ending    chan error // the first Shutdown's error; holds at most one
	closing   []func() error
	listenNow sync.Once
	helloNow  sync.Once
	hello     time.Duration // when the first hello was sent
}

// New makes an Agent with its waiter and its nursery. Close must follow.
func New(cfg Config) (*Agent, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.StateDir == "" {
		cfg.StateDir = DefaultStateDir
	}
	if err := os.MkdirAll(cfg.StateDir, 0o711); err != nil { // users of a user namespace pass through to a root beneath
		return nil, err
	}
	waiter, err := pidfd.NewWaiter()
	if err != nil {
		return nil, err
	}
	tree, err := cgroup.NewTree(cfg.CgroupRoot)
	if err != nil {
		return nil, errors.Join(err, waiter.Close())
	}
	n, err := nursery.Start(nursery.Config{Waiter: waiter, Logger: cfg.Logger, Exe: cfg.Exe})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start the nursery: %w", err), tree.Close(), waiter.Close())
	}
	profiles := new(container.Profiles)
	runtime := container.NewRuntime(container.Config{
		StateDir: filepath.Join(cfg.StateDir, "containers"), Roots: filepath.Join(cfg.StateDir, "roots"),
		Cgroups: tree, Waiter: waiter, Spawner: n, Profiles: profiles, Logger: cfg.Logger,
	})
	runtimes, err := extruntime.New(extruntime.Config{
		StateDir: filepath.Join(cfg.StateDir, "runtimes"), Cgroups: tree, Waiter: waiter, Logger: cfg.Logger, Exe: cfg.Exe,
	})
	if err != nil {
		return nil, errors.Join(err, n.Close(), tree.Close(), waiter.Close())
	}
	a := newAgent(cfg, &realTasks{runtime: runtime, runtimes: runtimes, tree: tree, spawner: n}, profiles)
	a.closing = []func() error{runtimes.Close, n.Close, tree.Close, waiter.Close}
	return a, nil
}

// newAgent makes an Agent whose processes come from t, which knows the profiles.
func newAgent(cfg Config, t tasks, profiles *container.Profiles) *Agent {
	a := &Agent{
		cfg: cfg, log: cfg.Logger, tasks: t, profiles: profiles,
		repeats: repeat.NewLog(),
		table:   process.NewTable(cfg.Logger),
		budget:  relay.NewBudget(int64(memory() / budgetShare)),
		roots:   rootstore.New(filepath.Join(cfg.StateDir, "rootfs"), cfg.Logger),
		ending:  make(chan error, 1),
	}
	a.server = control.NewServer(control.Config{Handler: a, AtOnce: atOnce, Hello: a.makeHello, Allow: cfg.AllowPeer, Present: a.present, Logger: cfg.Logger})
	return a
}

// present is told when a first client has connected and when the last has gone.
func (a *Agent) present(connected bool) {
	if connected {
		a.table.HostBack()
	} else {
		a.table.HostAway()
	}
}

// budgetShare is the part of the guest's memory that all rings may take together, SPEC 9.
const budgetShare = 8

func memory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// Serve serves control connections until the context ends, which gives nil, a client asks for the end of the guest, which gives ErrPowerOff or ErrReboot, or the listener
// fails. It closes the listener and joins the connections; processes live on.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	a.listenNow.Do(func() {
		if a.cfg.Timeline.Listen == 0 {
			a.cfg.Timeline.Listen = bootTime()
		}
	})
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case err := <-a.ending:
			cancel(err)
		case <-ctx.Done():
		}
	})
	err := a.server.Serve(ctx, l)
	cause := context.Cause(ctx)
	cancel(nil)
	watch.Wait()
	if errors.Is(cause, ErrPowerOff) || errors.Is(cause, ErrReboot) {
		return cause
	}
	return err
}

// Close ends what New began: operations still going on are cancelled (and left alone if they do not end in 5 s), stdio is closed, the nursery ends. Processes are not killed: the end of the guest or of
// the service's cgroup does that.
func (a *Agent) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeBound)
	defer cancel()
	a.table.HostBack() // nobody is ended any more for having no host
	errs := []error{a.repeats.Close(ctx)}
	for _, p := range a.table.All() {
		errs = append(errs, p.CloseStdio())
	}
	for _, f := range a.closing {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// closeBound bounds the wait of Close for operations that do not end when they are cancelled: a container's hooks, for one.
const closeBound = 5 * time.Second

// makeHello is called right before a hello is sent.
func (a *Agent) makeHello() *pb.Hello {
	a.helloNow.Do(func() { a.hello = bootTime() })
	return &pb.Hello{Software: a.cfg.Software, Instance: a.cfg.Instance[:]}
}

// bootTime reads CLOCK_BOOTTIME, which goes on while the machine is suspended.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
