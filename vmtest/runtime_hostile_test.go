package vmtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// hostileScripts are programs of the guest that are given as runtimes. They have the global options in $1 to $6, and the command in $7.
var hostileScripts = map[string]string{
	// Fails with much to say, in its log and to a process that it leaves.
	"talker": `yes 'no end of words' | head -c 4000000 >$4; echo '{"level":"error","msg":"the\u0000 reason\n"}' >>$4; sleep 1000 & exit 1`,
	// Cannot run at all.
	"broken": `echo "error while loading shared libraries: libnone.so.1" >&2; exit 127`,
	// Says nothing.
	"mute": `exit 9`,
	// Leaves a process and does not say which.
	"secretive": `sleep 1000 & exit 0`,
	// Claims PID 1 for its own.
	"liar": `echo 1 >/run/liar.pid; for a; do case $p in --pid-file) cp /run/liar.pid $a;; esac; p=$a; done; exit 0`,
	// Hangs, with a child that outlives it.
	"hanger": `[ $7 = create ] || exit 1; echo >/run/hanger.ran; sleep 1000 & sleep 1000`,
	// Leaves a process, but no terminal.
	"unsociable": `[ $7 = create ] || exit 1; for a; do case $p in --pid-file) f=$a;; esac; p=$a; done; (sleep 1000 & echo $! >$f); exit 0`,
	// Pauses its container, and then hangs, with a child that outlives it.
	"lazy": `/usr/bin/crun "$@" || exit; [ $7 = pause ] || exit 0; touch /run/lazy.$8; sleep 1000 & sleep 1000`,
	// Makes a container that is none, which it cannot start, signal or delete.
	"helpless": `[ $7 = create ] || { echo "cannot $7" >&2; exit 1; }; for a; do case $p in --pid-file) f=$a;; esac; p=$a; done; mkdir $2; (sleep 1000 & echo $! >$f); exit 0`,
}

// hostileRuntimes gives the files to the guest as /hostile/NAME.
func hostileRuntimes(t *testing.T) []initramfs.File {
	t.Helper()
	dir := t.TempDir()
	var files []initramfs.File
	for name, script := range hostileScripts {
		host := filepath.Join(dir, name)
		text := "#!" + vmtest.Rootfs + "/bin/sh\nPATH=" + vmtest.Rootfs + "/bin\n" + script + "\n"
		if err := os.WriteFile(host, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		files = append(files, initramfs.File{Path: "/hostile/" + name, Source: host, Mode: 0o755})
	}
	host := filepath.Join(dir, "uninterpreted")
	if err := os.WriteFile(host, []byte("#!/nonexistent\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return append(files, initramfs.File{Path: "/hostile/uninterpreted", Source: host, Mode: 0o755})
}

// testHostileRuntimes creates containers with programs that are no runtimes: every time an error with a reason, in bounded time, and nothing is left (which the end of
// TestExternalRuntimes looks at).
func testHostileRuntimes(t *testing.T, g *guest) {
	with := func(name string) hostclient.ProcessConfig {
		return hostclient.ProcessConfig{ID: "hostile-" + name, Spec: containerSpec("true"), ExternalRuntime: "/hostile/" + name}
	}
	for _, tt := range []struct {
		name     string
		terminal bool
		want     string
	}{
		{"talker", false, "runtime create: the reason"},
		{"talker", true, "runtime create: the reason"},
		{"broken", false, "runtime create: error while loading shared libraries: libnone.so.1"},
		{"broken", true, "runtime create: error while loading shared libraries: libnone.so.1"},
		{"mute", false, "runtime create: the runtime ended with status 9"},
		{"secretive", false, "runtime create: the runtime's pid file names no process that it left: no such file or directory"},
		{"liar", false, "runtime create: the runtime's pid file names no process that it left: no child processes"},
		{"unsociable", true, "runtime create: cannot receive the terminal: "},
		{"uninterpreted", false, "runtime create: cannot execute the runtime: no such file or directory"},
	} {
		cfg := with(tt.name)
		cfg.Spec.Process.Terminal = tt.terminal
		p := g.process(t, cfg)
		if err := p.Create(deadline(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, terminal %v: Create() = %v; want an error with %q", tt.name, tt.terminal, err, tt.want)
		}
		if info, ok := g.info(t, p.ID()); ok {
			t.Errorf("%s: %+v is left", tt.name, info)
		}
	}
	t.Run("Cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(deadline(t))
		p := g.process(t, with("hanger"))
		created := make(chan error, 1)
		go func() { created <- p.Create(ctx) }()
		g.root(t, "until test -e /run/hanger.ran; do sleep 0.05; done")
		cancel()
		if err := <-created; !errors.Is(err, context.Canceled) {
			t.Errorf("Create() = %v; want context.Canceled", err)
		}
		eventually(t, "the runtime and its child to be killed", func() bool { return len(g.processes(t, "hostile/hanger")) == 0 })
	})
	t.Run("Helpless", func(t *testing.T) {
		ctx := deadline(t)
		p := g.process(t, with("helpless"))
		if err := p.Create(ctx); err != nil {
			t.Fatalf("Create() = %v; want no error", err)
		}
		if err := p.Kill(ctx, hostclient.SIGTERM); err == nil || !strings.Contains(err.Error(), "runtime kill: cannot kill") {
			t.Errorf("Kill() = %v; want the runtime's error", err)
		}
		if err := p.Delete(ctx); err == nil || !strings.Contains(err.Error(), "runtime delete: cannot delete") {
			t.Errorf("Delete() = %v; want the runtime's error", err)
		}
		if _, err := p.ForceDelete(ctx); err != nil {
			t.Errorf("ForceDelete() = %v; want no error", err)
		}
		p = g.process(t, with("helpless"))
		if err := p.Launch(ctx); err == nil || !strings.Contains(err.Error(), "runtime start: cannot start") {
			t.Errorf("Launch() = %v; want the runtime's error", err)
		}
	})
	t.Run("PauseGivenUp", func(t *testing.T) { testRuntimePauseGivenUp(t, g, with("lazy")) })
	p := g.process(t, with("mute"))
	if err := p.Create(deadline(t)); errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("Create() with the id of one that failed = %v; want its own failure", err)
	}
}

// testRuntimePauseGivenUp has a runtime hang in the middle of a pause. Its caller can give it up, after which the container goes on; and it ends with a container that is deleted.
func testRuntimePauseGivenUp(t *testing.T, g *guest, cfg hostclient.ProcessConfig) {
	pausing := func(ctx context.Context, p *hostclient.Process) <-chan error {
		paused := make(chan error, 1)
		go func() { paused <- g.Client.Container(p.ID()).Pause(ctx) }()
		g.root(t, fmt.Sprintf("until test -e /run/lazy.%[1]s; do sleep 0.05; done; rm /run/lazy.%[1]s", p.ID()))
		return paused
	}
	hangs := func() bool { return len(g.processes(t, "hostile/lazy.* pause")) > 0 }
	cfg.Spec = containerSpec("while read line; do echo $line; done")
	in, feed := io.Pipe()
	out := new(output)
	cfg.Stdin, cfg.Stdout = in, out
	p := g.start(t, cfg)
	ctx, cancel := context.WithCancel(deadline(t))
	paused := pausing(ctx, p)
	if !hangs() {
		t.Error("the runtime has ended; want it to hang")
	}
	cancel()
	if err := <-paused; !errors.Is(err, context.Canceled) {
		t.Errorf("Pause() = %v; want context.Canceled", err)
	}
	fmt.Fprintln(feed, "goes on")
	out.await(t, "goes on\n")
	eventually(t, "the runtime and its child to be killed", func() bool { return !hangs() })

	paused = pausing(deadline(t), p)
	if _, err := p.ForceDelete(deadline(t)); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
	if err := <-paused; !errors.Is(err, context.Canceled) {
		t.Errorf("Pause() of a container that is deleted = %v; want context.Canceled", err)
	}
	feed.Close()
}

// testRuntimesLeaveNothing looks for what containers of external runtimes could have left: bundles, cgroups, keepers, runtimes and what those had started.
func testRuntimesLeaveNothing(t *testing.T, g *guest) {
	for what, script := range map[string]string{
		"bundles":       "ls /run/bellhop/runtimes",
		"runtimes' own": "ls -d /run/runc/* /run/crun/* 2>/dev/null || true",
		"groups":        "ls -d /sys/fs/cgroup/bellhop/*base* /sys/fs/cgroup/bellhop/hostile* 2>/dev/null || true",
	} {
		if left := g.root(t, script); left != "" {
			t.Errorf("%s are left: %q", what, left)
		}
	}
	if left := g.processes(t, "keeper|runc|crun|hostile|sleep"); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
}
