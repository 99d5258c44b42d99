package vmtest_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testKill sends signals by name and number.
func testKill(t *testing.T, g *guest) {
	tests := []struct {
		signal string
		script string
		code   int
		want   hostclient.Signal
	}{
		{"KILL", "sleep 1000", 137, hostclient.SIGKILL},
		{"SIGTERM", "trap - TERM; exec sleep 1000", 143, hostclient.SIGTERM},
		{"10", "trap 'exit 5' USR1; while :; do sleep 0.1; done", 5, 0},
		{"34", "exec sleep 1000", 162, 34},
	}
	inEveryPlace(t, func(t *testing.T, where place) {
		for _, tt := range tests {
			if where == first && tt.want != 0 && tt.want != hostclient.SIGKILL {
				continue // the kernel keeps signals without a handler from a pid namespace's first process
			}
			out := new(output)
			cfg := g.script(where, "echo up; "+tt.script)
			if tt.want == 0 {
				cfg = g.script(where, strings.Replace(tt.script, "; ", "; echo up; ", 1))
			}
			cfg.Stdout = out
			p := g.start(t, cfg)
			out.await(t, "up\n")
			signal, err := hostclient.ParseSignal(tt.signal)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Kill(deadline(t), signal); err != nil {
				t.Errorf("Kill(%s) = %v; want no error", tt.signal, err)
			}
			if status, err := p.Wait(deadline(t)); err != nil || status.ExitCode() != tt.code || status.Signal != tt.want || status.OOMKilled {
				t.Errorf("after Kill(%s): %+v, %v; want code %d", tt.signal, status, err, tt.code)
			}
		}
	})
}

// testKillAll signals a container with all its processes, among them one that forks without end, and a process outside containers with its descendants.
func testKillAll(t *testing.T, g *guest) {
	const trapping = `trap 'echo got $NAME; exit 0' USR1; echo up $NAME; while :; do sleep 0.1; done`
	t.Run("container", func(t *testing.T) {
		ctx := deadline(t)
		out := new(output)
		cfg := g.script(first, fmt.Sprintf("NAME=first; (while :; do true & wait; done) & %s", trapping))
		cfg.Stdout = out
		p := g.start(t, cfg)
		further := hostclient.ProcessConfig{Container: p.ID(), Process: ociProcess(&cfg), Stdout: out}
		exec := *further.Process
		exec.Args = []string{"/bin/sh", "-c", "NAME=exec; " + trapping}
		further.Process = &exec
		x := g.start(t, further)
		out.await(t, "up first")
		out.await(t, "up exec")
		if err := p.KillAll(ctx, hostclient.SIGUSR1); err != nil {
			t.Errorf("KillAll(SIGUSR1) = %v; want no error", err)
		}
		out.await(t, "got first")
		for _, waiting := range []*hostclient.Process{p, x} {
			if _, err := waiting.Wait(ctx); err != nil {
				t.Errorf("Wait() = %v; want no error", err)
			}
		}
		if err := x.KillAll(ctx, hostclient.SIGUSR1); err == nil {
			t.Error("KillAll() of an exec = no error; want one, since its cgroup is the container's")
		}
	})
	t.Run("outside", func(t *testing.T) {
		ctx := deadline(t)
		out := new(output)
		cfg := g.script(outside, "(NAME=child; "+trapping+") & NAME=parent; "+trapping)
		cfg.Stdout = out
		p := g.start(t, cfg)
		out.await(t, "up child")
		out.await(t, "up parent")
		if err := p.KillAll(ctx, hostclient.SIGUSR1); err != nil {
			t.Errorf("KillAll(SIGUSR1) = %v; want no error", err)
		}
		if _, err := p.Wait(ctx); err != nil {
			t.Errorf("Wait() = %v; want no error", err)
		}
		for _, name := range []string{"got parent", "got child"} {
			out.await(t, name)
		}
	})
	t.Run("SIGKILL", func(t *testing.T) {
		ctx := deadline(t)
		p := g.start(t, g.script(first, "sleep 1000 & sleep 1000"))
		x := g.start(t, hostclient.ProcessConfig{Container: p.ID(), Process: g.script(further, "sleep 1000").Process})
		if err := p.KillAll(ctx, hostclient.SIGKILL); err != nil {
			t.Errorf("KillAll(SIGKILL) = %v; want no error", err)
		}
		for _, waiting := range []*hostclient.Process{p, x} {
			if status, err := waiting.Wait(ctx); err != nil || status.ExitCode() != 137 {
				t.Errorf("Wait() = %v, %v; want 137", status, err)
			}
		}
	})
}

// testKillStopped signals a process that is stopped, and lets it go on.
func testKillStopped(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		out := new(output)
		cfg := g.script(where, "trap 'echo got; exit 0' USR1; echo up; while :; do sleep 0.1; done")
		cfg.Stdout = out
		p := g.start(t, cfg)
		out.await(t, "up\n")
		kill := p.KillAll
		if where == further {
			kill = p.Kill // its cgroup is the container's
		}
		for _, s := range []hostclient.Signal{hostclient.SIGSTOP, hostclient.SIGUSR1, hostclient.SIGCONT} {
			if err := kill(ctx, s); err != nil {
				t.Errorf("sending %v = %v; want no error", s, err)
			}
		}
		if status, err := p.Wait(ctx); err != nil || !status.Success() || out.String() != "up\ngot\n" {
			t.Errorf("Wait() = %v, %v, output %q; want success and the signal", status, err, out.String())
		}
	})
}

// testKillErrors signals what cannot be signalled.
func testKillErrors(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		p := g.process(t, g.script(where, "exit 0"))
		if err := p.Kill(ctx, hostclient.SIGTERM); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Kill() before Create() = %v; want errdefs.ErrFailedPrecondition", err)
		}
		if err := p.Launch(ctx); err != nil {
			t.Fatal(err)
		}
		for _, s := range []hostclient.Signal{0, 65, 1 << 31} {
			if err := p.Kill(ctx, s); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("Kill(%d) = %v; want errdefs.ErrInvalidArgument", uint32(s), err)
			}
		}
		if _, err := p.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.Kill(ctx, hostclient.SIGTERM); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Kill() of an exited process = %v; want errdefs.ErrFailedPrecondition", err)
		}
		if err := p.Delete(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.Kill(ctx, hostclient.SIGTERM); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Kill() of a deleted process = %v; want errdefs.ErrNotFound", err)
		}
	})
}

// testReusedPid has the kernel give an exited process's number to a stranger: a signal to the first does not reach the second.
func testReusedPid(t *testing.T, g *guest) {
	ctx := deadline(t)
	old := g.start(t, g.script(outside, "exit 0"))
	if _, err := old.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	var stranger *hostclient.Process
	for range 50 { // others may take the number first
		g.root(t, "echo "+strconv.Itoa(old.Pid()-1)+" >/proc/sys/kernel/ns_last_pid")
		p := g.start(t, g.script(outside, "sleep 1000"))
		if p.Pid() == old.Pid() {
			stranger = p
			break
		}
		if _, err := p.ForceDelete(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if stranger == nil {
		t.Skip("the kernel did not give the number again in 50 attempts: run the test again")
	}
	if err := old.Kill(ctx, hostclient.SIGKILL); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Kill() = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := old.KillAll(ctx, hostclient.SIGKILL); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("KillAll() = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if _, err := old.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
	if info, ok := g.info(t, stranger.ID()); !ok || info.State != hostclient.StateRunning {
		t.Errorf("the stranger: %+v; want it running", info)
	}
}
