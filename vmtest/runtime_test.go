package vmtest_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// TestExternalRuntimes runs containers with Debian's runc and crun in one machine, and with programs that are no runtimes at all: what works with the agent's own containers does with
// theirs.
func TestExternalRuntimes(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	const tree = "../build/runtimes"
	if _, err := os.Stat(tree); err != nil {
		t.Skip("no OCI runtimes for the guest: run make deps")
	}
	g := &guest{VM: vmtest.Start(t, vmtest.Busybox(), vmtest.Tree(tree, "/"), vmtest.Files(hostileRuntimes(t)...))}
	t.Run("Independent", func(t *testing.T) {
		for _, runtime := range []string{"/usr/sbin/runc", "/usr/bin/crun"} {
			t.Run(path.Base(runtime), func(t *testing.T) {
				t.Parallel()
				testRuntime(t, newRuntimeGuest(t, g, runtime))
			})
		}
		t.Run("Hostile", func(t *testing.T) {
			t.Parallel()
			testHostileRuntimes(t, g)
		})
	})
	t.Run("NothingIsLeft", func(t *testing.T) { testRuntimesLeaveNothing(t, g) })
}

// runtimeGuest is the machine as the tests of one runtime use it.
type runtimeGuest struct {
	*guest
	runtime string
	base    string // a container of the runtime's, for execs
}

func newRuntimeGuest(t *testing.T, g *guest, runtime string) *runtimeGuest {
	t.Helper()
	r := &runtimeGuest{guest: g, runtime: runtime, base: "base-" + path.Base(runtime)}
	cfg := r.script(first, "sleep 100000")
	cfg.ID = r.base
	r.start(t, cfg)
	return r
}

func (r *runtimeGuest) script(p place, script string) hostclient.ProcessConfig {
	if p == first {
		return hostclient.ProcessConfig{Spec: containerSpec(script), ExternalRuntime: r.runtime}
	}
	return hostclient.ProcessConfig{Container: r.base, Process: &specs.Process{
		Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"},
	}}
}

// testRuntime has the behaviours that do not depend on who makes a container. Those of one runtime run one after the other: the other runtime's run beside them.
func testRuntime(t *testing.T, r *runtimeGuest) {
	for _, where := range []place{first, further} {
		t.Run(where.String(), func(t *testing.T) {
			t.Run("Lifecycle", func(t *testing.T) { testRuntimeLifecycle(t, r, where) })
			t.Run("StartErrors", func(t *testing.T) { testRuntimeStartErrors(t, r, where) })
			t.Run("Terminal", func(t *testing.T) { testRuntimeTerminal(t, r, where) })
			t.Run("Kill", func(t *testing.T) { testRuntimeKill(t, r, where) })
			t.Run("LostKeeper", func(t *testing.T) { testLostKeeper(t, r, where) })
		})
	}
	t.Run("ExecAs", func(t *testing.T) { testRuntimeExecAs(t, r) })
	t.Run("Container", func(t *testing.T) { testRuntimeContainer(t, r) })
	t.Run("Pause", func(t *testing.T) { testRuntimePause(t, r) })
	t.Run("Update", func(t *testing.T) { testRuntimeUpdate(t, r) })
	t.Run("Share", func(t *testing.T) { testRuntimeShare(t, r) })
	t.Run("Rootfs", func(t *testing.T) { testRuntimeRootfs(t, r) })
	t.Run("Refused", func(t *testing.T) { testRuntimeRefuses(t, r) })
}

// testRuntimeLifecycle takes a process through its life: all bytes arrive both ways, and several waiters are told of its end.
func testRuntimeLifecycle(t *testing.T, r *runtimeGuest, where place) {
	ctx := deadline(t)
	input := randomBytes(1 << 20)
	var stdout, stderr bytes.Buffer
	cfg := r.script(where, "cat; echo complaint >&2; exit 7")
	cfg.Stdin, cfg.Stdout, cfg.Stderr = bytes.NewReader(input), &stdout, &stderr
	p := r.process(t, cfg)
	if err := p.Create(ctx); err != nil {
		t.Fatalf("Create() = %v; want no error", err)
	}
	if info, ok := r.info(t, p.ID()); !ok || info.State != hostclient.StateCreated || info.IsContainer != (where == first) {
		t.Errorf("after Create(): %+v, listed %v; want a created process", info, ok)
	}
	var waiters sync.WaitGroup
	for range 3 {
		waiters.Go(func() {
			if status, err := p.Wait(ctx); err != nil || status.Code != 7 || status.Signal != 0 || status.StartedAt.IsZero() {
				t.Errorf("Wait() = %+v, %v; want code 7", status, err)
			}
		})
	}
	if err := p.Start(ctx); err != nil || p.Pid() < 2 {
		t.Fatalf("Start() = %v, pid %d; want no error and a pid", err, p.Pid())
	}
	waiters.Wait()
	if !bytes.Equal(stdout.Bytes(), input) || stderr.String() != "complaint\n" {
		t.Errorf("stdout has %d bytes, stderr %q; want the %d of the input, and what was written", stdout.Len(), stderr.String(), len(input))
	}
	if err := p.Kill(ctx, hostclient.SIGTERM); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Kill() after the exit = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := p.Delete(ctx); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
	if info, ok := r.info(t, p.ID()); ok {
		t.Errorf("after Delete(): %+v; want it gone", info)
	}
}

// testRuntimeStartErrors names programs that cannot be executed, with and without a terminal: the error has the code that the agent's own containers give, and the runtime's words.
func testRuntimeStartErrors(t *testing.T, r *runtimeGuest, where place) {
	for _, tt := range []struct {
		program  string
		terminal bool
		want     error
	}{
		{"/bin/nope", false, errdefs.ErrNotFound},
		{"nope", true, errdefs.ErrNotFound},
		{"/etc/passwd", false, errdefs.ErrPermissionDenied},
	} {
		cfg := r.script(where, "")
		ociProcess(&cfg).Args = []string{tt.program}
		ociProcess(&cfg).Terminal = tt.terminal
		p := r.process(t, cfg)
		err := p.Launch(deadline(t))
		step := map[place]string{first: "runtime create", further: "runtime exec"}[where]
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), step+": exec "+tt.program+": ") {
			t.Errorf("%s: Launch() = %v; want %v with the step %q", tt.program, err, tt.want, step)
		}
		if info, ok := r.info(t, p.ID()); ok {
			t.Errorf("%s: %+v is left", tt.program, info)
		}
	}
}

// testRuntimeTerminal has a terminal of a given size, resizes it, types, and interrupts.
func testRuntimeTerminal(t *testing.T, r *runtimeGuest, where place) {
	ctx := deadline(t)
	out := new(output)
	in, feed := io.Pipe()
	defer feed.Close()
	cfg := onTerminal(r.script(where, "trap 'echo interrupted' INT; trap 'stty size' WINCH; stty size; test -t 0 && test -t 1 && test -t 2 && echo tty >/dev/tty; "+
		"until read -t 1 line; do :; done; echo got $line; exit 3"))
	ociProcess(&cfg).ConsoleSize = &specs.Box{Width: 91, Height: 17}
	cfg.Stdin, cfg.Stdout = in, out
	p := r.start(t, cfg)
	out.await(t, "17 91\r\ntty\r\n")
	if err := p.Resize(ctx, 100, 30); err != nil {
		t.Errorf("Resize() = %v; want no error", err)
	}
	out.await(t, "30 100\r\n")
	_, _ = io.WriteString(feed, "\x03") // ^C
	out.await(t, "interrupted\r\n")
	_, _ = io.WriteString(feed, "word\n")
	if status, err := p.Wait(ctx); err != nil || status.Code != 3 || !strings.HasSuffix(out.String(), "got word\r\n") {
		t.Errorf("Wait() = %v, %v, output %q; want code 3 and the word", status, err, out.String())
	}
}

// testRuntimeKill signals a running process, which must be killed before it can be deleted without force.
func testRuntimeKill(t *testing.T, r *runtimeGuest, where place) {
	ctx := deadline(t)
	out := new(output)
	cfg := r.script(where, "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done")
	cfg.Stdout = out
	p := r.start(t, cfg)
	out.await(t, "ready\n")
	if err := p.Kill(ctx, hostclient.SIGTERM); err != nil {
		t.Errorf("Kill(SIGTERM) = %v; want no error", err)
	}
	out.await(t, "asked\n")
	if err := p.Delete(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Delete() while running = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := p.Kill(ctx, hostclient.SIGKILL); err != nil {
		t.Errorf("Kill(SIGKILL) = %v; want no error", err)
	}
	if status, err := p.Wait(ctx); err != nil || status.Signal != hostclient.SIGKILL || status.OOMKilled {
		t.Errorf("Wait() = %+v, %v; want SIGKILL", status, err)
	}
	if err := p.Delete(ctx); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
}

// testLostKeeper kills the parent of a running process, without which nobody would learn how it ends: it is killed, and the container can be deleted and used as ever.
func testLostKeeper(t *testing.T, r *runtimeGuest, where place) {
	ctx := deadline(t)
	p := r.start(t, r.script(where, "sleep 1000"))
	keeper := r.parentOf(t, p.Pid())
	if name := r.root(t, "cat /proc/"+keeper+"/comm"); name != "bellhop-keeper" {
		t.Fatalf("the process's parent is %s; want its keeper", name)
	}
	r.root(t, "kill -KILL "+keeper)
	if status, err := p.Wait(ctx); err != nil || status.Signal != hostclient.SIGKILL {
		t.Errorf("Wait() = %+v, %v; want SIGKILL", status, err)
	}
	if err := p.Delete(ctx); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
	if _, out := r.run(t, r.script(further, "echo alive")); out != "alive\n" {
		t.Errorf("output = %q; want a working container for execs", out)
	}
}

func (g *guest) parentOf(t *testing.T, pid int) string {
	t.Helper()
	return g.root(t, "sed -n 's/^PPid:[^0-9]*//p' /proc/"+strconv.Itoa(pid)+"/status")
}

// testRuntimeExecAs looks at what an exec is given: user, directory, environment and limits, nothing of the agent's.
func testRuntimeExecAs(t *testing.T, r *runtimeGuest) {
	// The hard limit: runc 1.1 leaves the soft one where Go's runtime raised it to.
	cfg := r.script(further, "id -u; id -g; pwd; echo $HOME; ulimit -Hn; cat /proc/self/oom_score_adj; hostname; echo $$-$PPID")
	cfg.Process.User = specs.User{Username: "nobody"}
	cfg.Process.Cwd = "/tmp"
	status, out := r.run(t, cfg)
	if want := "65534\n65534\n/tmp\n/\n524288\n0\nbellhop\n"; !status.Success() || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "-0\n") {
		t.Errorf("%v, output %q; want %q and a parent outside of the container", status, out, want)
	}
	cfg = r.script(further, "")
	cfg.Process.User = specs.User{Username: "stranger"}
	if err := r.process(t, cfg).Launch(deadline(t)); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("exec as a user that does not exist: %v; want errdefs.ErrInvalidArgument", err)
	}
}

// testRuntimeContainer takes a container with a limit of memory to its end: an exec is killed for want of memory, another leaves a process behind, all are signalled, and force deletes it
// with everything in it.
func testRuntimeContainer(t *testing.T, r *runtimeGuest) {
	ctx := deadline(t)
	cfg := r.script(first, "sleep 100000")
	memory := int64(24 << 20)
	cfg.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory, Swap: &memory}
	c := r.start(t, cfg)
	exec := func(script string) hostclient.ProcessConfig {
		cfg := r.script(further, script)
		cfg.Container = c.ID()
		return cfg
	}
	if status, err := r.start(t, exec("x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done")).Wait(ctx); err != nil || status.ExitCode() != 137 || !status.OOMKilled {
		t.Errorf("Wait() of a hungry exec = %+v, %v; want 137, for want of memory", status, err)
	}

	out := new(output)
	x := exec("sleep 1000 & echo ready; wait")
	x.Stdout = out
	parent := r.start(t, x)
	out.await(t, "ready\n")
	if survivors, err := parent.ForceDelete(ctx); err != nil || len(survivors) != 1 || survivors[0].ContainerPid < 2 {
		t.Errorf("ForceDelete() of an exec = %+v, %v; want one survivor", survivors, err)
	}

	live := r.start(t, exec("trap 'exit 5' USR1; while :; do sleep 0.1; done"))
	if err := c.Delete(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Delete() of a running container = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := c.KillAll(ctx, hostclient.SIGKILL); err != nil {
		t.Errorf("KillAll() = %v; want no error", err)
	}
	for _, p := range []*hostclient.Process{c, live} {
		if status, err := p.Wait(ctx); err != nil || status.Signal != hostclient.SIGKILL {
			t.Errorf("Wait() = %+v, %v; want SIGKILL", status, err)
		}
	}
	late := r.process(t, exec("true"))
	if err := late.Launch(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("exec in a container that has exited: %v; want errdefs.ErrFailedPrecondition", err)
	}
	if _, err := c.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
}

// testRuntimeShare has a container of the agent's own in the namespaces of the runtime's, and one of the runtime's in those.
func testRuntimeShare(t *testing.T, r *runtimeGuest) {
	owner := r.start(t, r.script(first, forever))
	r.execIn(t, owner, "echo of the owner >/dev/shm/owner")
	own := r.start(t, sharing(containerSpec(forever), owner, podTypes...))
	cfg := sharing(containerSpec(forever), own, podTypes...)
	cfg.ExternalRuntime = r.runtime
	for _, p := range []*hostclient.Process{own, r.start(t, cfg)} {
		if got := same(r.namespacesOf(t, owner.Pid()), r.namespacesOf(t, p.Pid())); !slices.Equal(got, slices.Sorted(slices.Values(append(podTypes, specs.TimeNamespace, specs.UserNamespace)))) {
			t.Errorf("shared namespaces: %q; want network, IPC, UTS and PID, and the guest's users and time", got)
		}
		if got := r.execIn(t, p, "cat /dev/shm/owner"); got != "of the owner\n" {
			t.Errorf("in /dev/shm: %q; want what the owner wrote", got)
		}
	}
	if err := owner.Kill(deadline(t), hostclient.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status, err := own.WaitExit(deadline(t)); err != nil || status.Signal != hostclient.SIGKILL {
		t.Errorf("WaitExit() = %v, %v; want SIGKILL, as the owner of its PID namespace has ended", status, err)
	}
	if err := r.process(t, sharing(containerSpec(forever), owner, specs.UTSNamespace)).Launch(deadline(t)); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("sharing with a container that has exited: %v; want errdefs.ErrFailedPrecondition", err)
	}
}

// testRuntimeRootfs runs containers of the runtime on a prepared root file system, with files.
func testRuntimeRootfs(t *testing.T, r *runtimeGuest) {
	rootfs := r.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{}})
	for i, want := range []string{"nameserver 10.0.2.3\n", "nameserver 10.0.2.3\nx\n"} {
		status, out := r.run(t, hostclient.ProcessConfig{
			Spec:  hostclient.DefaultSpec(rootfs.Path, "/bin/sh", "-c", "cat /etc/resolv.conf /left 2>/dev/null; echo x >>/left"),
			Files: networkFiles(), ExternalRuntime: r.runtime,
		})
		if !status.Success() || out != want {
			t.Errorf("container %d: %v, output %q; want %q", i, status, out, want)
		}
	}
}

// testRuntimeRefuses has requests that come to nothing: some the agent refuses, some the runtime, whose words are then in the error.
func testRuntimeRefuses(t *testing.T, r *runtimeGuest) {
	for _, tt := range []struct {
		name   string
		change func(*hostclient.ProcessConfig)
		where  place
		want   error
		text   string
	}{
		{"no such runtime", func(c *hostclient.ProcessConfig) { c.ExternalRuntime = "/usr/bin/nope" }, first, errdefs.ErrNotFound, "runtime /usr/bin/nope: not found"},
		{"relative", func(c *hostclient.ProcessConfig) { c.ExternalRuntime = "runc" }, first, errdefs.ErrInvalidArgument, "runtime"},
		{"a directory", func(c *hostclient.ProcessConfig) { c.ExternalRuntime = "/usr" }, first, errdefs.ErrPermissionDenied, "not an executable"},
		{"another runtime", func(c *hostclient.ProcessConfig) { c.ExternalRuntime = "/usr/bin/other" }, further, errdefs.ErrInvalidArgument, "runtime"},
		{"no root", func(c *hostclient.ProcessConfig) { c.Spec.Root.Path = "/nonexistent" }, first, errdefs.ErrInvalidArgument, "root.path"},
		{"a mount that fails", func(c *hostclient.ProcessConfig) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "nosuchfs", Source: "none"})
		}, first, nil, "runtime create: "},
	} {
		cfg := r.script(tt.where, "true")
		tt.change(&cfg)
		err := r.process(t, cfg).Launch(deadline(t))
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: Launch() = %v; want %v with %q", tt.name, err, tt.want, tt.text)
		}
	}
	// A process of the agent's own making has no runtime.
	cfg := r.guest.script(outside, "true")
	cfg.ExternalRuntime = r.runtime
	if err := r.process(t, cfg).Launch(deadline(t)); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("a runtime for a process outside containers: %v; want errdefs.ErrInvalidArgument", err)
	}
}
