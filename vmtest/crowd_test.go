package vmtest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// crowdSize is how many containers testCrowd has at once: the figure containers-left has 200.
const crowdSize = 20

// testCrowd has many containers in one machine, with an exec in each. Nothing of them is left: testNothingIsLeft looks for processes, cgroups and descriptors, this for mounts and state.
func testCrowd(t *testing.T, g *guest) {
	ctx := deadline(t)
	traces := func() string {
		return g.root(t, "wc -l </proc/mounts; ls /run/bellhop/containers | wc -l")
	}
	before := traces()
	var crowd []*hostclient.Process
	for range crowdSize {
		crowd = append(crowd, g.process(t, g.script(first, "exec sleep 1000")))
	}
	together := func(do func(*hostclient.Process) error) {
		t.Helper()
		var all sync.WaitGroup
		for _, p := range crowd {
			all.Go(func() {
				if err := do(p); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	together(func(p *hostclient.Process) error { return p.Launch(ctx) })
	together(func(p *hostclient.Process) error {
		out, err := g.Client.Container(p.ID()).Command(ctx, "/bin/sh", "-c", "echo $((6*7))").Output()
		if err != nil || string(out) != "42\n" {
			return fmt.Errorf("an exec in one of many containers = %q, %w; want 42", out, err)
		}
		return nil
	})
	if all, err := g.Client.Statistics(ctx); err != nil || len(all) < crowdSize {
		t.Errorf("Statistics() = %d, %v; want %d and more", len(all), err, crowdSize)
	}
	t.Logf("the agent with %d containers: %s", crowdSize, strings.ReplaceAll(g.root(t, fmt.Sprintf("grep -E 'Rss|Threads' /proc/%d/status", g.agentPid(t))), "\n", ", "))
	together(func(p *hostclient.Process) error {
		_, err := p.ForceDelete(ctx)
		return err
	})
	if after := traces(); after != before {
		t.Errorf("mounts and containers' state: %q; want %q, as before", after, before)
	}
}
