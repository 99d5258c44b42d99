package vmtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testWaitByMany has waiters of two clients before, during and after the run; all get the same status.
func testWaitByMany(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		in, feed := io.Pipe()
		cfg := g.script(where, "cat; exit 6")
		cfg.Stdin, cfg.Stdout = in, io.Discard
		p := g.process(t, cfg)
		if _, err := p.Wait(ctx); err == nil {
			t.Error("Wait() before Create() = no error; want one")
		}
		if err := p.Create(ctx); err != nil {
			t.Fatalf("Create() = %v; want no error", err)
		}
		stranger, err := g.otherClient(t).Attach(ctx, p.ID(), nil)
		if err != nil {
			t.Fatalf("Attach(…) = %v; want no error", err)
		}
		results := make(chan hostclient.ExitStatus)
		waiters := 0
		wait := func() {
			for _, q := range []*hostclient.Process{p, stranger} {
				for _, f := range []func(context.Context) (hostclient.ExitStatus, error){q.Wait, q.WaitExit} {
					waiters++
					go func() {
						status, err := f(ctx)
						if err != nil {
							t.Errorf("waiting = %v; want no error", err)
						}
						results <- status
					}()
				}
			}
		}
		wait()
		if err := p.Start(ctx); err != nil {
			t.Fatalf("Start() = %v; want no error", err)
		}
		wait()
		_ = feed.Close()
		if _, err := p.WaitExit(ctx); err != nil {
			t.Errorf("WaitExit() = %v; want no error", err)
		}
		wait()
		var exited time.Time
		for range waiters {
			status := <-results
			if exited.IsZero() {
				exited = status.ExitedAt
			}
			if status.Code != 6 || !status.ExitedAt.Equal(exited) || status.StartedAt.IsZero() {
				t.Errorf("status = %+v; want code 6, and the same for all", status)
			}
		}
	})
}

// testWaitGivesUp has waiters whose context ends; others, and the process, do not notice. A process that is deleted before it ran releases its waiters.
func testWaitGivesUp(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		p := g.process(t, g.script(where, "exit 0"))
		if err := p.Create(ctx); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if _, err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait() = %v; want context.DeadlineExceeded", err)
		}
		stranger, err := g.otherClient(t).Attach(ctx, p.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		released := make(chan error)
		for _, q := range []*hostclient.Process{p, stranger} {
			go func() {
				status, err := q.Wait(ctx)
				if err == nil && !status.StartedAt.IsZero() {
					err = errors.New("a start time")
				} else if ctx.Err() == nil {
					err = nil
				}
				released <- err
			}()
		}
		if err := p.Delete(ctx); err != nil {
			t.Errorf("Delete() before Start() = %v; want no error", err)
		}
		for range 2 {
			if err := <-released; err != nil {
				t.Errorf("Wait() of a process deleted before it ran: %v; want it to return", err)
			}
		}
	})
}

// testCoreDump has a process leave a core dump.
func testCoreDump(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		cfg := g.script(where, "ulimit -c unlimited; cd /tmp; sh -c 'kill -SEGV $$'; exec sleep 1000")
		if where != first { // the first one of a pid namespace can't kill itself so
			cfg = g.script(where, "cd /tmp; exec sh -c 'kill -SEGV $$'")
		}
		ociProcess(&cfg).Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1 << 30, Hard: 1 << 30}}
		p := g.start(t, cfg)
		if where == first {
			if err := p.Kill(deadline(t), hostclient.SIGKILL); err != nil {
				t.Errorf("Kill() = %v; want no error", err)
			}
			return
		}
		status, err := p.Wait(deadline(t))
		if err != nil || status.Signal != hostclient.SIGSEGV || !status.Core || status.ExitCode() != 139 {
			t.Errorf("Wait() = %+v, %v; want SIGSEGV and a core dump", status, err)
		}
	})
}

// testOutOfMemory has a container, and an exec in one, use more memory than it may: the status says so, as does the watch.
func testOutOfMemory(t *testing.T, g *guest) {
	const limit, hungry = 24 << 20, "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
	limited := func(script string) hostclient.ProcessConfig {
		cfg := g.script(first, script)
		memory, swap := int64(limit), int64(limit)
		cfg.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory, Swap: &swap}
		return cfg
	}
	t.Run("first", func(t *testing.T) {
		status, err := g.start(t, limited(hungry)).Wait(deadline(t))
		if err != nil || status.ExitCode() != 137 || !status.OOMKilled {
			t.Errorf("Wait() = %+v, %v; want 137, for want of memory", status, err)
		}
	})
	t.Run("further", func(t *testing.T) {
		g.checkOutOfMemory(t, g.start(t, limited("sleep 1000")), hungry)
	})
	// The limit is that of a cgroup that the container has made itself, and the exec goes there.
	t.Run("nested", func(t *testing.T) {
		out := new(output)
		cfg := g.script(first, fmt.Sprintf("cd /sys/fs/cgroup && mkdir inner init && echo $$ >init/cgroup.procs && echo +memory >cgroup.subtree_control && "+
			"echo %d >inner/memory.max && echo 0 >inner/memory.swap.max && echo up; sleep 1000", limit))
		writableCgroup(cfg.Spec)
		cfg.Stdout = out
		container := g.start(t, cfg)
		out.await(t, "up\n")
		g.checkOutOfMemory(t, container, "echo $$ >/sys/fs/cgroup/inner/cgroup.procs; "+hungry)
	})
}

// checkOutOfMemory runs a script in a container, which the kernel is to kill for want of memory: its status says so, as does the watch of the container, which lives on.
func (g *guest) checkOutOfMemory(t *testing.T, container *hostclient.Process, script string) {
	t.Helper()
	ctx, stop := context.WithCancel(deadline(t))
	defer stop()
	oom, ready := make(chan struct{}), make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for e := range g.Client.Watch(ctx) {
			switch e := e.(type) {
			case hostclient.Synced:
				close(ready)
			case hostclient.OutOfMemory:
				if e.Container == container.ID() {
					close(oom)
					return
				}
			}
		}
	}()
	<-ready
	x := g.start(t, hostclient.ProcessConfig{Container: container.ID(), Process: g.script(further, script).Process})
	if status, err := x.Wait(ctx); err != nil || status.ExitCode() != 137 || !status.OOMKilled {
		t.Errorf("Wait() = %+v, %v; want 137, for want of memory", status, err)
	}
	select {
	case <-oom:
	case <-ctx.Done():
		t.Error("the watch told of no lack of memory")
	}
	stop()
	<-watched
	g.checkState(t, "after the lack of memory", hostclient.StateRunning, container)
	if s, err := g.Client.Container(container.ID()).Statistics(deadline(t)); err != nil || s.Memory.OOMKills == 0 {
		t.Errorf("Statistics() = %+v, %v; want the kill counted", s, err)
	}
}
