package vmtest_test

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// testPrivileges looks at what processes inherit from the agent: nothing of its protection, no descriptor, no signal that is ignored or blocked.
func testPrivileges(t *testing.T, g *guest) {
	if adj := g.root(t, fmt.Sprintf("cat /proc/%d/oom_score_adj", g.agentPid(t))); !strings.HasPrefix(adj, "-") {
		t.Errorf("oom_score_adj of the agent = %s; want less than 0", adj)
	}
	const script = `cat /proc/self/oom_score_adj; grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | sort -u; cd /proc/self/fd; ls`
	inEveryPlace(t, func(t *testing.T, where place) {
		status, out := g.run(t, g.script(where, script))
		// The descriptor 3 is the one that ls has open to list them.
		if want := "0\n0000000000000000\n0\n1\n2\n3\n"; !status.Success() || out != want {
			t.Errorf("oom_score_adj, signals, descriptors = %v, %q; want %q", status, out, want)
		}
	})
}

// testMissingStream has the guest's connections break before they say whose they are: creating fails within its bound, and says what is missing.
func testMissingStream(t *testing.T, g *guest) {
	gate := new(vsockdev.Gate)
	for name, fault := range map[string]vsockdev.Fault{
		"refused":                {Direction: vsockdev.GuestToHost, At: 0, Action: vsockdev.FaultReset},
		"silent in the preamble": {Direction: vsockdev.GuestToHost, At: 20, Action: vsockdev.FaultStall, Gate: gate},
		"silent at its answer":   {Direction: vsockdev.HostToGuest, At: 5, Action: vsockdev.FaultStall, Gate: gate},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryPlace(t, func(t *testing.T, where place) {
				cfg := g.script(where, "true")
				cfg.Stdout, cfg.ConnectTimeout = io.Discard, 500*time.Millisecond
				p := g.process(t, cfg)
				g.inject(t, func(info vsockdev.ConnInfo) []vsockdev.Fault {
					if info.Dialed {
						return nil
					}
					return []vsockdev.Fault{fault}
				})
				err := p.Launch(deadline(t))
				g.faults.Store(nil)
				if err == nil || !strings.Contains(err.Error(), "stdout") {
					t.Errorf("Launch() = %v; want an error that names stdout", err)
				}
				if err := p.Delete(deadline(t)); err != nil {
					t.Errorf("Delete() = %v; want no error", err)
				}
				if _, ok := g.info(t, p.ID()); ok {
					t.Error("the process is listed; want nothing left")
				}
			})
		})
	}
	gate.Open()
}

// inject sets the faults of new connections until the test ends.
func (g *guest) inject(t *testing.T, faults func(vsockdev.ConnInfo) []vsockdev.Fault) {
	g.faults.Store(&faults)
	t.Cleanup(func() { g.faults.Store(nil) })
}

// testPause stops the machine in the middle of processes' lives: they and their connections go on as if nothing had been.
func testPause(t *testing.T, g *guest) {
	ctx := deadline(t)
	type running struct {
		*hostclient.Process
		feed *io.PipeWriter
		out  *output
	}
	var all []running
	for _, where := range everyPlace() {
		for _, terminal := range []bool{false, true} {
			in, feed := io.Pipe()
			r := running{feed: feed, out: new(output)}
			cfg := g.script(where, "echo up; while read x; do echo got $x; done; exit 4")
			ociProcess(&cfg).Terminal = terminal
			cfg.Stdin, cfg.Stdout = in, r.out
			r.Process = g.start(t, cfg)
			r.out.await(t, "up")
			all = append(all, r)
		}
	}
	var dialled atomic.Int32
	g.inject(t, func(vsockdev.ConnInfo) []vsockdev.Fault {
		dialled.Add(1)
		return nil
	})
	for round := range 3 {
		g.Client.Pause()
		if err := g.Machine.Pause(ctx); err != nil {
			t.Fatalf("Pause() = %v; want no error", err)
		}
		for _, r := range all { // what is written to a paused machine waits
			if _, err := fmt.Fprintf(r.feed, "round %d\n", round); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Machine.Resume(ctx); err != nil {
			t.Fatalf("Resume() = %v; want no error", err)
		}
		g.Client.Resume()
		for _, r := range all {
			r.out.await(t, fmt.Sprintf("got round %d", round))
		}
	}
	for _, r := range all {
		_ = r.feed.Close()
		if status, err := r.Wait(ctx); err != nil || status.Code != 4 {
			t.Errorf("Wait() = %v, %v; want code 4", status, err)
		}
	}
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d connections were made; want the old ones to live to the end", n)
	}
}

// testNothingIsLeft looks for what the tests before may have left in the guest.
func testNothingIsLeft(t *testing.T, g *guest) {
	list, err := g.Client.List(deadline(t))
	if err != nil || len(list) != 1 || list[0].ID != g.base {
		t.Errorf("List() = %+v, %v; want the container for execs only", list, err)
	}
	agent := g.agentPid(t)
	// The dead of a container whose first process does not reap them are its own affair.
	zombies := fmt.Sprintf("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | xargs -r grep -cHE '^PPid:.(1|%d)$' || true", agent)
	eventually(t, "the end of all zombies", func() bool { return !strings.Contains(g.root(t, zombies), ":1") })
	groups := strings.Fields(g.root(t, "cd /sys/fs/cgroup/bellhop && ls -d */ && cat /proc/self/cgroup"))
	own := groups[len(groups)-1]
	groups = slices.DeleteFunc(groups[:len(groups)-1], func(dir string) bool { return strings.HasSuffix(own, "/"+strings.TrimSuffix(dir, "/")) })
	if len(groups) != 1 || groups[0] != g.base+"/" {
		t.Errorf("cgroups %q; want that of the container for execs only", groups)
	}
	if left := g.root(t, "ls -d /run/bellhop/files/* 2>/dev/null || true"); left != "" {
		t.Errorf("%q is left of what containers were given; want nothing", left)
	}
	eventually(t, "the agent's descriptors to be as many as at the beginning", func() bool { return g.agentFDs(t) <= g.fds })
}

// agentFDs counts the agent's file descriptors, while one process without a connected input runs.
func (g *guest) agentFDs(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(g.root(t, fmt.Sprintf("ls /proc/%d/fd | wc -l", g.agentPid(t))))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (g *guest) agentPid(t *testing.T) int {
	t.Helper()
	info, err := g.Client.Info(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.AgentPid
}
