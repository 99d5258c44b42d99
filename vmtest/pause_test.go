package vmtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// freezer reads whether a cgroup is to be frozen, and is: "1 frozen 1".
func (g *guest) freezer(t *testing.T, cgroup string) string {
	t.Helper()
	return g.root(t, fmt.Sprintf("cd %s; echo $(cat cgroup.freeze) $(grep frozen cgroup.events)", cgroup))
}

// paused starts a container and an exec in it, both of which tell of SIGUSR1, and pauses it.
func (g *guest) paused(t *testing.T) (p, x *hostclient.Process, out *output) {
	t.Helper()
	out = new(output)
	const script = "trap 'echo %s signalled; exit 3' USR1; echo %s up; while :; do sleep 0.1; done"
	cfg := g.script(first, fmt.Sprintf(script, "first", "first"))
	cfg.Stdout = out
	p = g.start(t, cfg)
	x = g.start(t, hostclient.ProcessConfig{Container: p.ID(), Process: g.script(further, fmt.Sprintf(script, "exec", "exec")).Process, Stdout: out})
	out.await(t, "first up")
	out.await(t, "exec up")
	if err := g.Client.Container(p.ID()).Pause(deadline(t)); err != nil {
		t.Fatalf("Pause() = %v; want no error", err)
	}
	return p, x, out
}

// checkState looks at what the guest lists.
func (g *guest) checkState(t *testing.T, when string, want hostclient.State, processes ...*hostclient.Process) {
	t.Helper()
	for _, p := range processes {
		if info, ok := g.info(t, p.ID()); !ok || info.State != want || info.Pid != p.Pid() {
			t.Errorf("%s: %+v, listed %v; want it %v", when, info, ok, want)
		}
	}
}

// testPauseContainer pauses a container with an exec: a signal does not thaw it, and arrives when it goes on.
func testPauseContainer(t *testing.T, g *guest) {
	ctx := deadline(t)
	p, x, out := g.paused(t)
	cgroup := cgroupOf(t, g, p)
	container := g.Client.Container(p.ID())
	g.checkState(t, "paused", hostclient.StatePaused, p, x)
	if err := container.Pause(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Pause() again = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := g.Client.Container(x.ID()).Pause(ctx); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Pause() of an exec = %v; want errdefs.ErrInvalidArgument", err)
	}
	if err := container.Command(ctx, "true").Run(); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("an exec in a paused container = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := container.Kill(ctx, hostclient.SIGUSR1); err != nil {
		t.Errorf("Kill(SIGUSR1) = %v; want no error", err)
	}
	if got := g.freezer(t, cgroup); got != "1 frozen 1" {
		t.Errorf("after a signal the cgroup is %q; want it frozen still", got)
	}
	g.checkState(t, "signalled", hostclient.StatePaused, p, x)
	if err := container.Resume(ctx); err != nil {
		t.Errorf("Resume() = %v; want no error", err)
	}
	// The exec is killed by the kernel if the container's first process ends before it.
	if status, err := p.Wait(ctx); err != nil || status.Code != 3 {
		t.Errorf("Wait() = %v, %v; want that the signal has arrived", status, err)
	}
	if _, err := x.Wait(ctx); err != nil {
		t.Errorf("Wait() of the exec = %v; want no error", err)
	}
	out.await(t, "first signalled")
	if err := container.Pause(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Pause() after the exit = %v; want errdefs.ErrFailedPrecondition", err)
	}
}

// testEndPaused ends a paused container, and an exec in one, in every way.
func testEndPaused(t *testing.T, g *guest) {
	for name, end := range map[string]func(context.Context, *hostclient.Process, *hostclient.Process) error{
		"Kill":    func(ctx context.Context, p, _ *hostclient.Process) error { return p.Kill(ctx, hostclient.SIGKILL) },
		"KillAll": func(ctx context.Context, p, _ *hostclient.Process) error { return p.KillAll(ctx, hostclient.SIGKILL) },
		"exec first": func(ctx context.Context, p, x *hostclient.Process) error {
			if err := x.Kill(ctx, hostclient.SIGKILL); err != nil {
				return err
			}
			if status, err := x.Wait(ctx); err != nil || status.ExitCode() != 137 {
				return fmt.Errorf("Wait() of the exec = %v, %v; want 137", status, err)
			}
			return p.Kill(ctx, hostclient.SIGKILL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := deadline(t)
			p, x, _ := g.paused(t)
			if err := end(ctx, p, x); err != nil {
				t.Errorf("killing = %v; want no error", err)
			}
			for _, waiting := range []*hostclient.Process{p, x} {
				if status, err := waiting.Wait(ctx); err != nil || status.ExitCode() != 137 {
					t.Errorf("Wait() = %v, %v; want 137", status, err)
				}
			}
		})
	}
	t.Run("ForceDelete", func(t *testing.T) {
		p, x, _ := g.paused(t)
		if _, err := x.ForceDelete(deadline(t)); err != nil {
			t.Errorf("ForceDelete() of the exec = %v; want no error", err)
		}
		if _, err := p.ForceDelete(deadline(t)); err != nil {
			t.Errorf("ForceDelete() = %v; want no error", err)
		}
		if _, ok := g.info(t, p.ID()); ok {
			t.Error("the container is listed; want it gone")
		}
	})
}

// testPauseBesideExecs pauses and resumes a container into which many execs come all the time: they run, or are refused, and nothing hangs.
func testPauseBesideExecs(t *testing.T, g *guest) {
	ctx := deadline(t)
	container := g.Client.Container(g.start(t, g.script(first, "sleep 1000")).ID())
	stop := make(chan struct{})
	var execs sync.WaitGroup
	var mu sync.Mutex
	ran, refused := 0, 0
	for range 4 {
		execs.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := container.Command(ctx, "true").Run()
				mu.Lock()
				switch {
				case err == nil:
					ran++
				case errors.Is(err, errdefs.ErrFailedPrecondition):
					refused++
				default:
					t.Errorf("an exec beside pauses = %v; want it to run or to be refused", err)
				}
				mu.Unlock()
			}
		})
	}
	for range 15 {
		if err := container.Pause(ctx); err != nil {
			t.Errorf("Pause() = %v; want no error", err)
		}
		if err := container.Resume(ctx); err != nil {
			t.Errorf("Resume() = %v; want no error", err)
		}
	}
	close(stop)
	execs.Wait()
	if ran == 0 {
		t.Errorf("%d execs ran and %d were refused; want some to run", ran, refused)
	}
	if out, err := container.Command(ctx, "echo", "in").Output(); err != nil || string(out) != "in\n" {
		t.Errorf("an exec at the end = %q, %v; want it to run", out, err)
	}
}

// testPauseBesideSignals pauses a container while signals, which freeze and thaw it, are sent to all of it: it is paused in the end.
func testPauseBesideSignals(t *testing.T, g *guest) {
	ctx := deadline(t)
	p := g.start(t, g.script(first, "trap : USR1; while :; do sleep 0.1; done"))
	cgroup := cgroupOf(t, g, p)
	for range 5 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := p.KillAll(ctx, hostclient.SIGUSR1); err != nil {
					t.Errorf("KillAll(SIGUSR1) = %v; want no error", err)
				}
			})
		}
		if err := g.Client.Container(p.ID()).Pause(ctx); err != nil {
			t.Errorf("Pause() = %v; want no error", err)
		}
		all.Wait()
		if got := g.freezer(t, cgroup); got != "1 frozen 1" {
			t.Errorf("the cgroup is %q; want it frozen", got)
		}
		if err := g.Client.Container(p.ID()).Resume(ctx); err != nil {
			t.Errorf("Resume() = %v; want no error", err)
		}
	}
}

// testPauseIsWatched has a watcher see a container and its exec stand still and go on.
func testPauseIsWatched(t *testing.T, g *guest) {
	ctx, stop := context.WithCancel(deadline(t))
	defer stop()
	p := g.start(t, g.script(first, "sleep 1000"))
	x := g.start(t, hostclient.ProcessConfig{Container: p.ID(), Process: g.script(further, "sleep 1000").Process})
	ready := make(chan struct{})
	states := make(chan hostclient.State, 100)
	go func() {
		defer close(states)
		for e := range g.Client.Watch(ctx) {
			switch e := e.(type) {
			case hostclient.Synced:
				close(ready)
			case hostclient.ProcessChanged:
				if e.ID == x.ID() {
					states <- e.State
				}
			}
		}
	}()
	<-ready
	container := g.Client.Container(p.ID())
	if err := errors.Join(container.Pause(ctx), container.Resume(ctx)); err != nil {
		t.Fatalf("Pause() and Resume() = %v; want no error", err)
	}
	for _, want := range []hostclient.State{hostclient.StateRunning, hostclient.StatePaused, hostclient.StateRunning} {
		if got := <-states; got != want {
			t.Errorf("the exec is %v; want %v", got, want)
		}
	}
	stop()
	for range states {
		continue
	}
}

// testRuntimePause has an external runtime pause and resume its container, and deletes it while it is paused.
func testRuntimePause(t *testing.T, r *runtimeGuest) {
	ctx := deadline(t)
	out := new(output)
	cfg := r.script(first, "trap 'echo signalled' USR1; echo up; while :; do sleep 0.1; done")
	cfg.Stdout = out
	p := r.start(t, cfg)
	out.await(t, "up\n")
	x := r.start(t, hostclient.ProcessConfig{Container: p.ID(), Process: r.script(further, "trap '' USR1; exec sleep 1000").Process})
	cgroup := cgroupOf(t, r.guest, p)
	container := r.Client.Container(p.ID())
	if err := container.Resume(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Resume() of a running container = %v; want errdefs.ErrFailedPrecondition", err)
	}
	for range 2 {
		if err := container.Pause(ctx); err != nil {
			t.Fatalf("Pause() = %v; want no error", err)
		}
		r.checkState(t, "paused", hostclient.StatePaused, p, x)
		if err := container.Command(ctx, "/bin/true").Run(); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("an exec in a paused container = %v; want errdefs.ErrFailedPrecondition", err)
		}
		if err := container.Kill(ctx, hostclient.SIGUSR1); err != nil {
			t.Errorf("Kill(SIGUSR1) = %v; want no error", err)
		}
		if got := r.freezer(t, cgroup); got != "1 frozen 1" {
			t.Errorf("after a signal the cgroup is %q; want it frozen still", got)
		}
		if err := container.Resume(ctx); err != nil {
			t.Errorf("Resume() = %v; want no error", err)
		}
		out.await(t, "signalled\n")
	}
	if err := container.Pause(ctx); err != nil {
		t.Errorf("Pause() = %v; want no error", err)
	}
	if _, err := p.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() of a paused container = %v; want no error", err)
	}
}
