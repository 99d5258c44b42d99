//go:build linux && cgo

// Package boot makes a Linux guest out of a kernel and an initramfs, around the
// agent: file systems, modules, cgroups, and the few settings that programs
// expect. Guest does so for the agent that Bellhop's PID 1 forked; Service only
// finds its place in a machine that another init runs.
package boot

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/bellhop-vm/bellhop/agent/kmod"
	"github.com/bellhop-vm/bellhop/agent/pid1"
)

// Result is what the rest of the agent needs to know of its place.
type Result struct {
	Config

	// PID1 is true in a guest that Bellhop's own PID 1 runs.
	PID1 bool

	// CgroupRoot is the cgroup beneath which containers go, relative to the
	// mount of cgroup v2 and beginning with a slash. Empty: there is none,
	// and containers cannot be made.
	CgroupRoot string

	// Instance names this life of the agent.
	Instance [16]byte

	Timeline Timeline

	// Modules is closed when the modules of the initramfs are loaded, as far
	// as they can be. Who needs a device or an address family waits for it.
	Modules <-chan struct{}
}

// Timeline has moments of the boot as times on CLOCK_BOOTTIME; zero is unknown.
type Timeline struct {
	Init   time.Duration // PID 1's first instruction
	Main   time.Duration // the agent's main
	Booted time.Duration // Guest or Service returned
}

// Now is the present on the clock of a Timeline.
func Now() time.Duration { return bootTime() }

// step is one row of the table of what a boot does between mounting the file
// systems and being ready. A step that fails is a warning.
type step struct {
	name string
	run  func(*Result) error
}

func guestSteps() []step {
	return []step{
		{"oom score", func(*Result) error { return protectAgent() }},
		{"file limit", func(*Result) error { return raiseFileLimit() }},
		{"host name", func(r *Result) error { return setHostnameOf(r.Hostname) }},
		{"loopback", func(*Result) error { return loopbackUp() }},
		{"cgroups", layOutGuestCgroups},
		{"instance", nameInstance},
		{"clock", func(r *Result) error { return checkClock(r.Clock) }},
	}
}

func serviceSteps(cgroups bool) []step {
	steps := []step{
		{"oom score", func(*Result) error { return protectAgent() }},
		{"file limit", func(*Result) error { return raiseFileLimit() }},
		{"instance", nameInstance},
	}
	if cgroups {
		steps = append(steps, step{"cgroups", layOutServiceCgroups})
	}
	return steps
}

// Guest boots the guest of the agent that parent forked. It returns when all is
// done but the loading of modules, see Result. level is set to what
// the kernel command line asks for. What does not work is a warning in log; an
// error means that the agent cannot live here. mainStart is when main began, by Now.
func Guest(parent *pid1.Parent, mainStart time.Duration, log *slog.Logger, level *slog.LevelVar) (*Result, error) {
	warn := func(err error) { log.Warn(err.Error()) }
	if err := mountAll("/", mounts(), warn); err != nil {
		return nil, err
	}
	linkAll("/", links(), warn)

	line, err := readCmdline()
	if err != nil {
		return nil, err
	}
	cfg, unusable := ParseCmdline(line)
	for _, err := range unusable {
		warn(err)
	}
	level.Set(cfg.LogLevel)
	parent.SetEnding(cfg.Ending)

	loaded := make(chan struct{})
	r := &Result{Config: cfg, PID1: true, Timeline: Timeline{Init: parent.Start(), Main: mainStart}, Modules: loaded}
	go func() {
		defer close(loaded)
		kmod.LoadAtBoot(warn)
	}()
	r.run(guestSteps(), warn)
	r.Timeline.Booted = bootTime()
	return r, nil
}

// Service finds the place of an agent that another init started. It changes
// nothing of the machine but the cgroup in which the agent was started and,
// without cgroups, not even that.
func Service(cfg Config, cgroups bool, mainStart time.Duration, log *slog.Logger) *Result {
	loaded := make(chan struct{})
	close(loaded) // modules are the other init's business
	r := &Result{Config: cfg, Timeline: Timeline{Main: mainStart}, Modules: loaded}
	r.run(serviceSteps(cgroups), func(err error) { log.Warn(err.Error()) })
	r.Timeline.Booted = bootTime()
	return r
}

func (r *Result) run(steps []step, warn func(error)) {
	for _, s := range steps {
		if err := s.run(r); err != nil {
			warn(fmt.Errorf("boot, %s: %w", s.name, err))
		}
	}
}

func layOutGuestCgroups(r *Result) (err error) {
	r.CgroupRoot, err = cgroups{cgroupMount}.layOut("/", os.Getpid())
	return err
}

func layOutServiceCgroups(r *Result) error {
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("cannot find the agent's cgroup: %w", err)
	}
	r.CgroupRoot, err = cgroups{cgroupMount}.layOutService(string(content), os.Getpid())
	return err
}

func nameInstance(r *Result) error {
	id, seeded, err := newInstance()
	r.Instance = id
	if err == nil && !seeded {
		err = fmt.Errorf("the kernel's random numbers are not seeded yet: what asks for them waits (a virtio-rng device helps)")
	}
	return err
}
