package vmtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testStatistics has a container with limits use some of everything, and compares what is told with what the kernel's files say.
func testStatistics(t *testing.T, g *guest) {
	ctx := deadline(t)
	memory, swap, quota, period, pids := int64(64<<20), int64(64<<20), int64(10_000), uint64(100_000), int64(20)
	out := new(output)
	cfg := g.script(first, "ip link set lo up; ping -c 3 -s 1000 127.0.0.1 >/dev/null; sleep 1000 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; wait")
	cfg.Spec.Linux.Resources = &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &memory, Swap: &swap},
		CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period},
		Pids:   &specs.LinuxPids{Limit: &pids},
	}
	for _, set := range []*[]string{&cfg.Spec.Process.Capabilities.Bounding, &cfg.Spec.Process.Capabilities.Permitted, &cfg.Spec.Process.Capabilities.Effective} {
		*set = append(*set, "CAP_NET_ADMIN", "CAP_NET_RAW")
	}
	cfg.Stdout = out
	p := g.start(t, cfg)
	out.await(t, "done\n")
	container := g.Client.Container(p.ID())
	s, err := container.Statistics(ctx)
	if err != nil {
		t.Fatalf("Statistics() = %v; want no error", err)
	}
	if s.Container != p.ID() || s.ReadAt.IsZero() || s.Pids != 2 || s.PidsLimit != 20 {
		t.Errorf("Statistics() = %+v; want 2 of 20 processes", s)
	}
	if c := s.CPU; c.Usage == 0 || c.Usage < c.User || c.Usage < c.System || c.Periods == 0 || c.ThrottledPeriods == 0 || c.Throttled == 0 || s.CPUPressure.Some.Total == 0 {
		t.Errorf("CPU = %+v, pressure %+v; want use, and that it was throttled", c, s.CPUPressure)
	}
	if m := s.Memory; m.Current == 0 || m.Peak < m.Current || m.Limit != 64<<20 || m.Anon == 0 || m.Kernel == 0 || m.PageFaults == 0 || m.OOMKills != 0 || m.WorkingSet() > m.Current {
		t.Errorf("Memory = %+v; want use, and the limit", m)
	}
	lo := slices.IndexFunc(s.Networks, func(n hostclient.NetworkStatistics) bool { return n.Name == "lo" })
	if lo < 0 || s.Networks[lo].SentPackets < 3 || s.Networks[lo].ReceivedBytes < 3000 {
		t.Errorf("Networks = %+v; want the packets on lo", s.Networks)
	}
	cgroup := cgroupOf(t, g, p)
	usage := strings.Fields(g.root(t, "cat "+cgroup+"/cpu.stat"))[1]
	if usec, err := strconv.ParseInt(usage, 10, 64); err != nil || s.CPU.Usage.Microseconds() > usec {
		t.Errorf("CPU usage = %v; cpu.stat says later %s µs", s.CPU.Usage, usage)
	}
	if err := container.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	paused, err := container.Statistics(ctx)
	if err != nil || paused.CPU.Usage < s.CPU.Usage || paused.Pids != 2 {
		t.Errorf("Statistics() of a paused container = %+v, %v; want them as ever", paused, err)
	}
	if err := p.Kill(ctx, hostclient.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	exited, err := container.Statistics(ctx)
	if err != nil || exited.CPU.Usage < s.CPU.Usage || exited.Pids != 0 || len(exited.Networks) != 0 {
		t.Errorf("Statistics() after the exit = %+v, %v; want what was used, and no interfaces", exited, err)
	}
}

// testStatisticsOfAll names containers, or none, or what is no container.
func testStatisticsOfAll(t *testing.T, g *guest) {
	ctx := deadline(t)
	p := g.start(t, g.script(first, "sleep 1000"))
	all, err := g.Client.Statistics(ctx)
	has := func(id string) bool {
		return slices.ContainsFunc(all, func(s hostclient.ContainerStatistics) bool { return s.Container == id && s.Pids > 0 })
	}
	if err != nil || !has(p.ID()) || !has(g.base) {
		t.Errorf("Statistics() = %+v, %v; want all containers", all, err)
	}
	some, err := g.Client.Statistics(ctx, p.ID(), g.base)
	if err != nil || len(some) != 2 || some[0].Container != p.ID() || some[1].Container != g.base {
		t.Errorf("Statistics(two) = %+v, %v; want them in their order", some, err)
	}
	x := g.start(t, g.script(further, "sleep 1000"))
	if _, err := g.Client.Statistics(ctx, p.ID(), x.ID()); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Statistics() of an exec = %v; want errdefs.ErrInvalidArgument", err)
	}
	if _, err := g.Client.Container("nobody").Statistics(ctx); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Statistics() of no container = %v; want errdefs.ErrNotFound", err)
	}
}

// testStatisticsBesideKills reads statistics all the time while containers are made, killed, waited for and deleted.
func testStatisticsBesideKills(t *testing.T, g *guest) {
	ctx := deadline(t)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := g.Client.Statistics(ctx); err != nil {
					t.Errorf("Statistics() = %v; want no error", err)
					return
				}
			}
		})
	}
	var lives sync.WaitGroup
	for i := range 3 {
		lives.Go(func() {
			for range 4 {
				if err := liveAndDie(t, g, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	lives.Wait()
	close(stop)
	readers.Wait()
}

// liveAndDie takes a container through its life.
func liveAndDie(t *testing.T, g *guest, i int) error {
	ctx := deadline(t)
	p, err := g.Client.NewProcess(g.script(first, fmt.Sprintf("sleep 1000; exit %d", i)))
	if err != nil {
		return err
	}
	if err := p.Launch(ctx); err != nil {
		return err
	}
	if err := p.KillAll(ctx, hostclient.SIGKILL); err != nil {
		return err
	}
	if status, err := p.Wait(ctx); err != nil || status.ExitCode() != 137 {
		return fmt.Errorf("Wait() beside statistics = %v, %v; want 137", status, err)
	}
	return p.Delete(ctx)
}
