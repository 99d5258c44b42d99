package vmtest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// settings reads what Update writes.
func (g *guest) settings(t *testing.T, cgroup string) string {
	t.Helper()
	return strings.Join(strings.Fields(g.root(t, "cd "+cgroup+"; cat memory.max memory.swap.max memory.low memory.high cpu.weight cpu.max pids.max cpuset.cpus.effective")), " ")
}

// testUpdate changes a running container's resources, a few at a time: what is not named stays.
func testUpdate(t *testing.T, g *guest) {
	ctx := deadline(t)
	cfg := g.script(first, "sleep 1000")
	cfg.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(80 << 20))}
	cfg.Spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(100))}
	p := g.start(t, cfg)
	cgroup := cgroupOf(t, g, p)
	container := g.Client.Container(p.ID())
	for _, step := range []struct {
		name   string
		change specs.LinuxResources
		want   string // memory.max memory.swap.max memory.low memory.high cpu.weight cpu.max pids.max cpuset.cpus.effective
	}{
		{"nothing", specs.LinuxResources{}, "67108864 16777216 0 max 100 max 100000 100 0-1"},
		{"zeros", specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(0)), Swap: new(int64(0))},
			CPU:    &specs.LinuxCPU{Shares: new(uint64(0)), Quota: new(int64(0)), Period: new(uint64(0))},
		}, "67108864 16777216 0 max 100 max 100000 100 0-1"},
		{"memory, with the sum kept", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(72 << 20))}}, "75497472 8388608 0 max 100 max 100000 100 0-1"},
		{"swap", specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: new(int64(73 << 20))}}, "75497472 1048576 0 max 100 max 100000 100 0-1"},
		{"period", specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(50_000))}}, "75497472 1048576 0 max 100 max 50000 100 0-1"},
		{"quota", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(20_000))}}, "75497472 1048576 0 max 100 20000 50000 100 0-1"},
		{"period under a quota", specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(60_000))}}, "75497472 1048576 0 max 100 20000 60000 100 0-1"},
		{"several", specs.LinuxResources{
			Memory: &specs.LinuxMemory{Reservation: new(int64(4096))},
			CPU:    &specs.LinuxCPU{Shares: new(uint64(2)), Cpus: "0"},
			Pids:   &specs.LinuxPids{Limit: new(int64(50))}, Unified: map[string]string{"memory.high": "67108864"},
		}, "75497472 1048576 4096 67108864 1 20000 60000 50 0"},
		{"unlimited", specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(-1))}, CPU: &specs.LinuxCPU{Quota: new(int64(-1))}, Pids: &specs.LinuxPids{Limit: new(int64(-1))},
		}, "max max 4096 67108864 1 max 60000 max 0"},
	} {
		if err := container.Update(ctx, &step.change); err != nil {
			t.Errorf("%s: Update() = %v; want no error", step.name, err)
		}
		if got := g.settings(t, cgroup); got != step.want {
			t.Errorf("%s: the cgroup has %q; want %q", step.name, got, step.want)
		}
	}
	if err := container.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := container.Update(ctx, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(9))}}); err != nil {
		t.Errorf("Update() of a paused container = %v; want no error", err)
	}
	g.checkState(t, "updated", hostclient.StatePaused, p)
}

// testFailedUpdate has updates of which a part cannot be: the error names it, and nothing has changed.
func testFailedUpdate(t *testing.T, g *guest) {
	ctx := deadline(t)
	cfg := g.script(first, "sleep 1000")
	cfg.Spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: new(int64(20_000)), Period: new(uint64(50_000))}
	p := g.start(t, cfg)
	cgroup := cgroupOf(t, g, p)
	container := g.Client.Container(p.ID())
	before := g.settings(t, cgroup)
	for _, tt := range []struct {
		field  string
		change func(*specs.LinuxResources)
	}{
		{"linux.resources.cpu.quota", func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Quota: new(int64(5))} }}, // less than a millisecond
		{"linux.resources.cpu.cpus", func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Shares: new(uint64(2000)), Cpus: "99"} }},
		{"linux.resources.unified", func(r *specs.LinuxResources) { r.Unified = map[string]string{"memory.high": "x"} }},
		{"linux.resources.hugepageLimits", func(r *specs.LinuxResources) {
			r.CPU = &specs.LinuxCPU{Cpus: "0"}
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "3MB", Limit: 1}}
		}},
		{"linux.resources.devices", func(r *specs.LinuxResources) { r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}} }},
	} {
		change := specs.LinuxResources{ // written before what fails
			Pids: &specs.LinuxPids{Limit: new(int64(7))}, Memory: &specs.LinuxMemory{Limit: new(int64(48 << 20)), Swap: new(int64(50 << 20))},
		}
		tt.change(&change)
		if err := container.Update(ctx, &change); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), tt.field) {
			t.Errorf("Update() = %v; want errdefs.ErrInvalidArgument that names %s", err, tt.field)
		}
		if after := g.settings(t, cgroup); after != before {
			t.Errorf("after a failure of %s the cgroup has %q; want %q, as before", tt.field, after, before)
		}
	}
	small := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(4096)), CheckBeforeUpdate: new(true)}}
	if err := container.Update(ctx, small); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Update() below what is in use = %v; want errdefs.ErrInvalidArgument", err)
	}
	g.checkState(t, "after all these", hostclient.StateRunning, p)
	x := g.start(t, hostclient.ProcessConfig{Container: p.ID(), Process: g.script(further, "sleep 1000").Process})
	if err := g.Client.Container(x.ID()).Update(ctx, &specs.LinuxResources{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Update() of an exec = %v; want errdefs.ErrInvalidArgument", err)
	}
	if err := p.Kill(ctx, hostclient.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := container.Update(ctx, &specs.LinuxResources{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Update() after the exit = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := g.Client.Container("nobody").Update(ctx, &specs.LinuxResources{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Update() of no container = %v; want errdefs.ErrNotFound", err)
	}
}

// testRuntimeUpdate changes and reads the resources of an external runtime's container.
func testRuntimeUpdate(t *testing.T, r *runtimeGuest) {
	ctx := deadline(t)
	p := r.start(t, r.script(first, "sleep 1000"))
	container := r.Client.Container(p.ID())
	if err := container.Update(ctx, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(12))}}); err != nil {
		t.Errorf("Update() = %v; want no error", err)
	}
	if s, err := container.Statistics(ctx); err != nil || s.PidsLimit != 12 || s.Pids != 1 || len(s.Networks) == 0 || s.CPU.Usage == 0 {
		t.Errorf("Statistics() = %+v, %v; want one of 12 processes, and its interfaces", s, err)
	}
}
