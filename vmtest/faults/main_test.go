package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
	"github.com/bellhop-vm/bellhop/vmtest"
)

var (
	soak = flag.Duration("soak", 0, "go on with random faults for this long")
	seed = flag.Uint64("seed", 0, "seed of all random choices; 0: a new one")
)

func TestMain(m *testing.M) {
	if os.Getenv(victimSocket) != "" {
		os.Exit(victim())
	}
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1e9)
	}
	os.Exit(m.Run())
}

// patience bounds every wait, without KVM on a busy host.
const patience = 3 * time.Minute

// machine is a machine whose device injects faults into the connections that are made while a plan is set.
type machine struct {
	*vmtest.VM
	plan atomic.Pointer[plan]
}

// startMachine boots a machine with the pattern's file in it.
func startMachine(t *testing.T, opts ...vmtest.Option) *machine {
	t.Helper()
	t.Logf("-seed=%d", *seed)
	m := new(machine)
	device := &vsockdev.Config{Fault: func(info vsockdev.ConnInfo) []vsockdev.Fault {
		if p := m.plan.Load(); p != nil {
			return p.faults(info)
		}
		return nil
	}}
	opts = append([]vmtest.Option{
		vmtest.Busybox(),
		vmtest.Files(initramfs.File{Path: patternFile, Content: pattern}),
		vmtest.Machine(func(c *vmm.Config) { c.DeviceConfig = device }),
		vmtest.Client(func(c *hostclient.Config) { c.ReconnectTimeout = patience }),
	}, opts...)
	m.VM = vmtest.Start(t, opts...)
	return m
}

// inject sets the faults of new connections until the returned function is called.
func (m *machine) inject(p *plan) (stop func()) {
	m.plan.Store(p)
	return func() { m.plan.Store(nil) }
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// script describes a process outside containers that runs a script of Busybox's shell.
func script(format string, args ...any) hostclient.ProcessConfig {
	return hostclient.ProcessConfig{
		ConnectTimeout: time.Minute, // it may take many attempts
		Process: &specs.Process{
			Args: []string{vmtest.Rootfs + "/bin/sh", "-c", fmt.Sprintf(format, args...)},
			Cwd:  "/",
			Env:  []string{"PATH=" + vmtest.Rootfs + "/bin"},
		},
	}
}

// process makes the object of a process, which ends with the test.
func (m *machine) process(t *testing.T, cfg hostclient.ProcessConfig) *hostclient.Process {
	t.Helper()
	p, err := m.Client.NewProcess(cfg)
	if err != nil {
		t.Fatalf("NewProcess(…) = %v; want no error", err)
	}
	t.Cleanup(func() {
		if _, err := p.ForceDelete(deadline(t)); err != nil {
			t.Errorf("ForceDelete() at the end = %v; want no error", err)
		}
	})
	return p
}

// launch makes a process that runs.
func (m *machine) launch(t *testing.T, cfg hostclient.ProcessConfig) *hostclient.Process {
	t.Helper()
	p := m.process(t, cfg)
	if err := p.Launch(deadline(t)); err != nil {
		t.Fatalf("Launch() = %v; want no error", err)
	}
	return p
}

// root runs a script outside containers and gives its output.
func (m *machine) root(t *testing.T, format string, args ...any) string {
	t.Helper()
	cfg := script(format, args...)
	cmd := m.Client.Command(deadline(t), cfg.Process.Args[0], cfg.Process.Args[1:]...)
	cmd.Env = cfg.Process.Env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v, output %q", cfg.Process.Args[2], err, out)
	}
	return string(out)
}

// described gives what the guest says of a process, for the message of a test that fails.
func (m *machine) described(id string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := m.Client.List(ctx)
	if err != nil {
		return err.Error()
	}
	for _, p := range list {
		if p.ID == id {
			return fmt.Sprintf("%+v", p)
		}
	}
	return "nothing"
}

// eventually polls a condition that nothing announces.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
