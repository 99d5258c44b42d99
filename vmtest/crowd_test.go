package vmtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
)

const (
	// crowdSize is how many containers testCrowd has at once.
	crowdSize = 200

	// crowdPatience bounds its life. Each container takes a third of a second of an emulated CPU until it runs.
	crowdPatience = 5 * time.Minute
)

// crowd are containers that live at the same time.
type crowd []*hostclient.Process

// each does something with all of them at once.
func (c crowd) each(t *testing.T, what string, do func(*hostclient.Process) error) {
	t.Helper()
	start := time.Now()
	var all sync.WaitGroup
	for _, p := range c {
		all.Go(func() {
			if err := do(p); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	all.Wait()
	t.Logf("%s: %v for %d containers", what, time.Since(start).Round(time.Millisecond), len(c))
}

// testCrowd takes many containers through their lives together in one machine of common size: all are made at once, have an exec each, tell what they use, are killed and deleted.
// Nothing of them is left.
func testCrowd(t *testing.T, g *guest) {
	ctx, cancel := context.WithTimeout(t.Context(), crowdPatience)
	defer cancel()
	before, free := g.traces(t), g.memoryAvailable(t)
	all := make(crowd, crowdSize)
	for i := range all {
		all[i] = g.process(t, g.script(first, "exec sleep 100000"))
	}
	all.each(t, "launch", func(p *hostclient.Process) error { return p.Launch(ctx) })
	all.each(t, "exec", func(p *hostclient.Process) error {
		out, err := g.Client.Container(p.ID()).Command(ctx, "/bin/sh", "-c", "echo $((6*7))").Output()
		if err != nil || string(out) != "42\n" {
			return fmt.Errorf("output = %q, %w; want 42", out, err)
		}
		return nil
	})
	use := g.root(t, fmt.Sprintf("grep -E 'VmRSS|Threads' /proc/%d/status; echo peak of all: $(($(cat /sys/fs/cgroup/bellhop/memory.peak) >> 20)) MiB", g.agentPid(t)))
	t.Logf("each takes %d KiB of the machine's memory; the agent: %s", (free-g.memoryAvailable(t))/crowdSize, strings.Join(strings.Fields(use), " "))
	checkCrowdStatistics(t, g, all)
	all.each(t, "kill", func(p *hostclient.Process) error {
		if err := p.Kill(ctx, hostclient.SIGKILL); err != nil {
			return err
		}
		if status, err := p.Wait(ctx); err != nil || status.Signal != hostclient.SIGKILL {
			return fmt.Errorf("Wait() = %v, %w; want an end by SIGKILL", status, err)
		}
		return nil
	})
	all.each(t, "delete", func(p *hostclient.Process) error { return p.Delete(ctx) })
	for _, p := range all {
		if _, err := g.Client.Container(p.ID()).Statistics(ctx); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Statistics() of a deleted container = %v; want errdefs.ErrNotFound", err)
		}
	}
	if after := g.traces(t); after != before {
		t.Errorf("after %d containers:\n%s\nwant, as before:\n%s", crowdSize, after, before)
	}
	eventually(t, "the agent's descriptors to be as many as at the beginning", func() bool { return g.agentFDs(t) <= g.fds })
}

// checkCrowdStatistics reads what all containers use in one call.
func checkCrowdStatistics(t *testing.T, g *guest, all crowd) {
	t.Helper()
	start := time.Now()
	told, err := g.Client.Statistics(deadline(t))
	if err != nil {
		t.Fatalf("Statistics() = %v; want no error", err)
	}
	t.Logf("statistics in one call: %v for %d containers", time.Since(start).Round(time.Millisecond), len(told))
	byID := map[string]hostclient.ContainerStatistics{}
	for _, s := range told {
		byID[s.Container] = s
	}
	if want := len(all) + 1; len(byID) != want { // and that for execs
		t.Errorf("Statistics() tells of %d containers; want %d", len(byID), want)
	}
	for _, p := range all {
		if s := byID[p.ID()]; s.Pids != 1 || s.CPU.Usage == 0 || s.Memory.Current == 0 {
			t.Errorf("Statistics() of %s = %+v; want one process that uses CPU and memory", p.ID(), s)
		}
	}
}

// traces are what containers have in the guest: mounts, their state, cgroups and processes.
func (g *guest) traces(t *testing.T) string {
	t.Helper()
	const script = `echo mounts $(wc -l </proc/mounts), cgroups $(find /sys/fs/cgroup -type d | wc -l), state $(ls /run/bellhop/containers)`
	return g.root(t, script) + "\n" + strings.Join(g.processes(t, "sleep| Z "), "\n")
}

// memoryAvailable is the guest's, in KiB.
func (g *guest) memoryAvailable(t *testing.T) int {
	t.Helper()
	var kib int
	if _, err := fmt.Sscan(g.root(t, "sed -n 's/^MemAvailable: *//p' /proc/meminfo"), &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
