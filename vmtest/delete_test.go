package vmtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testDelete deletes too early, then from all sides at once, then again.
func testDelete(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		hook, deleted := counter()
		cfg := g.script(where, "exec sleep 1000")
		cfg.OnDelete = hook
		p := g.start(t, cfg)
		if err := p.Delete(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) || deleted() != 0 {
			t.Errorf("Delete() of a running process = %v, hook called %d times; want errdefs.ErrFailedPrecondition, and not", err, deleted())
		}
		if err := p.Kill(ctx, hostclient.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, err := p.WaitExit(ctx); err != nil {
			t.Fatal(err)
		}
		stranger, err := g.otherClient(t).Attach(ctx, p.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error)
		for i := range 8 {
			go func() { errs <- []*hostclient.Process{p, stranger}[i%2].Delete(ctx) }()
		}
		for range 8 {
			if err := <-errs; err != nil {
				t.Errorf("Delete() beside others = %v; want no error", err)
			}
		}
		if err := p.Delete(ctx); err != nil || deleted() != 1 {
			t.Errorf("Delete() again = %v, hook called %d times; want no error, and once", err, deleted())
		}
		if _, ok := g.info(t, p.ID()); ok {
			t.Error("the process is listed; want it gone")
		}
		again := g.script(where, "exit 0")
		again.ID = p.ID()
		if status, err := g.start(t, again).Wait(ctx); err != nil || !status.Success() {
			t.Errorf("a new process with the same id: %v, %v; want success", status, err)
		}
	})
}

// cgroupOf gives the directory of a process's own cgroup, in the guest's root.
func cgroupOf(t *testing.T, g *guest, p *hostclient.Process) string {
	t.Helper()
	out := g.root(t, fmt.Sprintf("cat /proc/%d/cgroup", p.Pid()))
	return "/sys/fs/cgroup" + strings.TrimPrefix(out, "0::")
}

// testForceDelete deletes processes that run and have descendants which ignore signals, at every stage: nothing is left of them, which the missing cgroup proves.
func testForceDelete(t *testing.T, g *guest) {
	const family = "trap '' TERM HUP INT; (setsid sleep 1000 &); (sleep 1000 | sleep 1000) & echo up; wait; sleep 1000"
	for _, where := range []place{outside, first} {
		t.Run(where.String(), func(t *testing.T) {
			ctx := deadline(t)
			out := new(output)
			cfg := g.script(where, family)
			cfg.Stdout = out
			p := g.start(t, cfg)
			out.await(t, "up\n")
			cgroup := cgroupOf(t, g, p)
			if n := g.root(t, "cat "+cgroup+"/cgroup.procs | wc -l"); n == "0" || n == "1" {
				t.Errorf("%s processes in the cgroup; want the family", n)
			}
			if survivors, err := p.ForceDelete(ctx); err != nil || len(survivors) != 0 {
				t.Errorf("ForceDelete() = %v, %v; want nobody left", survivors, err)
			}
			if out := g.root(t, "ls -d "+cgroup+" 2>&1 || true"); !strings.Contains(out, "No such file") {
				t.Errorf("the cgroup: %s; want it removed", out)
			}
			if _, err := p.ForceDelete(ctx); err != nil {
				t.Errorf("ForceDelete() again = %v; want no error", err)
			}
		})
	}
	t.Run("with execs", func(t *testing.T) {
		ctx := deadline(t)
		p := g.start(t, g.script(first, "sleep 1000"))
		x := g.start(t, hostclient.ProcessConfig{Container: p.ID(), Process: g.script(further, "sleep 1000").Process})
		if err := p.Delete(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Delete() with a live exec = %v; want errdefs.ErrFailedPrecondition", err)
		}
		if _, err := p.ForceDelete(ctx); err != nil {
			t.Errorf("ForceDelete() = %v; want no error", err)
		}
		if _, ok := g.info(t, x.ID()); ok {
			t.Error("the exec is listed; want it deleted with its container")
		}
		if err := x.Delete(ctx); err != nil {
			t.Errorf("Delete() of the exec = %v; want no error", err)
		}
	})
	t.Run("created", func(t *testing.T) {
		inEveryPlace(t, func(t *testing.T, where place) {
			p := g.process(t, g.script(where, "true"))
			if err := p.Create(deadline(t)); err != nil {
				t.Fatal(err)
			}
			if _, err := p.ForceDelete(deadline(t)); err != nil {
				t.Errorf("ForceDelete() = %v; want no error", err)
			}
		})
	})
}

// testSurvivors deletes an exec whose descendants live on in the container, and are named.
func testSurvivors(t *testing.T, g *guest) {
	ctx := deadline(t)
	container := g.start(t, g.script(first, "sleep 1000"))
	out := new(output)
	x := g.start(t, hostclient.ProcessConfig{
		Container: container.ID(), Process: g.script(further, "sleep 2000 & echo up; wait").Process, Stdout: out,
	})
	out.await(t, "up\n")
	eventually(t, "the descendant to run its program", func() bool {
		ps, _ := g.Client.Container(container.ID()).Command(ctx, "ps").Output()
		return strings.Contains(string(ps), "sleep 2000")
	})
	survivors, err := x.ForceDelete(ctx)
	if err != nil || len(survivors) != 1 || survivors[0].Name == "" || survivors[0].Pid < 2 || survivors[0].ContainerPid < 2 {
		t.Errorf("ForceDelete() = %+v, %v; want the sleep as survivor", survivors, err)
	}
	ps, err := g.Client.Container(container.ID()).Command(ctx, "ps").Output()
	if err != nil || !strings.Contains(string(ps), "sleep 2000") {
		t.Errorf("ps = %q, %v; want the survivor alive", ps, err)
	}
}

// writableCgroup lets a container make cgroups beneath its own.
func writableCgroup(spec *specs.Spec) {
	for i, m := range spec.Mounts {
		if m.Destination == "/sys/fs/cgroup" {
			spec.Mounts[i] = specs.Mount{Destination: m.Destination, Type: "cgroup", Source: "cgroup"}
		}
	}
}

// testNestedCgroups has a container make cgroups with controllers beneath its own: execs find a place, and it can be deleted.
func testNestedCgroups(t *testing.T, g *guest) {
	ctx := deadline(t)
	out := new(output)
	cfg := g.script(first, "cd /sys/fs/cgroup && mkdir -p a/b init && echo $$ >init/cgroup.procs && echo +memory >cgroup.subtree_control && "+
		"(echo 0 >a/b/cgroup.procs; sleep 1000 &) && echo up; sleep 1000")
	writableCgroup(cfg.Spec)
	cfg.Stdout = out
	p := g.start(t, cfg)
	out.await(t, "up\n")
	if text, err := g.Client.Container(p.ID()).Command(ctx, "echo", "in").Output(); err != nil || string(text) != "in\n" {
		t.Errorf("exec = %q, %v; want it to run", text, err)
	}
	if _, err := p.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
}

// testFrozen freezes a container from outside: an exec into it is refused or can be given up, signals and deletion do not hang, and others run.
func testFrozen(t *testing.T, g *guest) {
	ctx := deadline(t)
	p := g.start(t, g.script(first, "exec sleep 1000"))
	cgroup := cgroupOf(t, g, p)
	g.root(t, "echo 1 >"+cgroup+"/cgroup.freeze; until grep -q 'frozen 1' "+cgroup+"/cgroup.events; do sleep 0.05; done")
	x := g.process(t, hostclient.ProcessConfig{Container: p.ID(), Process: g.script(further, "true").Process})
	if err := x.Launch(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Launch() in a frozen container = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := p.KillAll(ctx, hostclient.SIGUSR1); err != nil {
		t.Errorf("KillAll() of a frozen container = %v; want no error", err)
	}
	if _, out := g.run(t, g.script(further, "echo others")); out != "others\n" {
		t.Errorf("another container's exec: %q; want it to run", out)
	}
	if _, err := p.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() of a frozen container = %v; want no error", err)
	}
}
