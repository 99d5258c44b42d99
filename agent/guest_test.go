//go:build linux

package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// init keeps the main thread out of libcontainer's hands, as package main of the agent does: libcontainer sends threads into containers' mount namespaces and relies on
// their end.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if container.IsInit() {
		container.Init()
	}
	if os.Getenv(attackEnv) == "trace" {
		traceAll()
	}
	code := make(chan int)
	go func() { code <- m.Run() }()
	os.Exit(<-code)
}

// guest is an agent that makes real processes.
type guest struct {
	*host
	agent  *Agent
	rootfs string
	state  string // libcontainer's
	port   atomic.Uint32
}

// newGuest needs root, cgroup v2 and a machine that may be harmed.
func newGuest(t testing.TB) *guest {
	t.Helper()
	if os.Getenv("BELLHOP_IN_GUEST") != "1" {
		t.Skip("needs a guest: run this test binary as root in a virtual machine with BELLHOP_IN_GUEST=1 (vmtest's GoTest does)")
	}
	dir := t.TempDir()
	a, err := New(Config{
		Dial: dialPort(dir), CgroupRoot: "/bellhop-test", StateDir: filepath.Join(dir, "state"),
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Software: "bellhopd test", Instance: [16]byte{1},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{agent: a, rootfs: makeRootfs(t), state: filepath.Join(dir, "state", "containers")}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	g.host = serveAgent(t, a, dir)
	g.port.Store(1000)
	t.Cleanup(g.deleteAll)
	return g
}

// testWriter logs to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("agent: %s", bytes.TrimSpace(b))
	return len(b), nil
}

func (g *guest) deleteAll() {
	for _, p := range g.must(listReq()).GetListed().Processes {
		_, _ = g.do(deleteReq(p.Id, true))
	}
}

// makeRootfs makes a root with Busybox.
func makeRootfs(t testing.TB) string {
	t.Helper()
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("no busybox in the guest: %v", err)
	}
	root := t.TempDir()
	for _, d := range []string{"bin", "proc", "dev/pts", "sys/fs/cgroup", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(root, 0o755); err != nil { // a user of a user namespace must get in
		t.Fatal(err)
	}
	copyFile(t, box, filepath.Join(root, "bin/busybox"), 0o755)
	for _, name := range []string{"sh", "cat", "sleep", "true", "false", "echo", "head", "sha256sum", "id", "kill", "env", "pwd", "dd", "stty", "ps"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n", 0o644)
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\nweb:x:1001:\nstaff:x:50:web\n", 0o644)
	return root
}

func copyFile(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b), mode)
}

func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// spec is a container's, with a private everything.
func (g *guest) spec(args ...string) *specs.Spec {
	return &specs.Spec{
		Version: "1.2.0",
		Root:    &specs.Root{Path: g.rootfs},
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin"},
			Capabilities: &specs.LinuxCapabilities{
				Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Effective: []string{"CAP_KILL", "CAP_CHOWN"}, Permitted: []string{"CAP_KILL", "CAP_CHOWN"},
			},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace}},
			Resources:  &specs.LinuxResources{},
		},
	}
}

func marshal(t testing.TB, spec *specs.Spec) []byte {
	t.Helper()
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// container is a create request.
func (g *guest) container(id string, spec *specs.Spec, s *streams) *pb.Create {
	c := &pb.Create{Id: id, What: &pb.Create_Container{Container: &pb.Container{Spec: marshal(g.t, spec)}}}
	if s != nil {
		c.Stdio = s.stdio()
	}
	return c
}

// exec is a create request.
func (g *guest) exec(id, in string, s *streams, args ...string) *pb.Create {
	c := &pb.Create{Id: id, What: &pb.Create_Exec{Exec: &pb.Exec{Container: in, Process: &pb.Process{
		Args: args, Cwd: "/", Env: []string{"PATH=/bin:" + os.Getenv("PATH")},
	}}}}
	if s != nil {
		c.Stdio = s.stdio()
	}
	return c
}

func (g *guest) outputs() *streams {
	return g.listen(g.port.Add(1), nil, pb.Stream_STREAM_STDOUT, pb.Stream_STREAM_STDERR)
}

// run runs a process from nothing to its drained output in one operation, and deletes it.
func (g *guest) run(c *pb.Create, s *streams) (*pb.Exited, string) {
	g.t.Helper()
	c.Start, c.Wait = true, true
	d := g.must(createReq(c)).GetDrained()
	g.must(deleteReq(c.Id, false))
	out, ended := s.output(pb.Stream_STREAM_STDOUT)
	if !ended {
		g.t.Errorf("stdout of %s is drained without its end", c.Id)
	}
	return d.Exited, out
}

func TestGuestContainerLifecycle(t *testing.T) {
	g := newGuest(t)
	s := g.outputs()
	g.must(createReq(g.container("c1", g.spec("sh", "-c", "echo out; echo err >&2; exit 42"), s)))
	list := g.must(listReq()).GetListed().Processes
	if len(list) != 1 || list[0].State != pb.State_STATE_CREATED || !list[0].IsContainer {
		t.Fatalf("List() = %v; want one created container", list)
	}
	started := g.must(startReq("c1")).GetStarted()
	if started.Pid == 0 || started.StartedAt == 0 {
		t.Errorf("Start() = %v; want a pid and a time", started)
	}
	d := g.must(waitReq("c1")).GetDrained()
	if d.Exited.Code != 42 || d.Exited.Signal != 0 || d.Exited.StartedAt == 0 || d.Exited.ExitedAt < d.Exited.StartedAt {
		t.Errorf("Wait() = %v; want code 42", d.Exited)
	}
	if out, ended := s.output(pb.Stream_STREAM_STDOUT); out != "out\n" || !ended {
		t.Errorf("stdout = %q, ended %v; want %q", out, ended, "out\n")
	}
	if out, ended := s.output(pb.Stream_STREAM_STDERR); out != "err\n" || !ended {
		t.Errorf("stderr = %q, ended %v; want %q", out, ended, "err\n")
	}
	g.fails(killReq("c1", 15, false), errdefs.ErrFailedPrecondition)
	g.must(deleteReq("c1", false))
	g.fails(deleteReq("c1", false), errdefs.ErrNotFound)
	g.fails(waitReq("c1"), errdefs.ErrNotFound)
	noLeftovers(t)
}

// noLeftovers checks that no cgroup of a process and no zombie is left.
func noLeftovers(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir("/sys/fs/cgroup/bellhop-test")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("cgroup %s is left", e.Name())
		}
	}
	if z := zombies(t); len(z) > 0 {
		t.Errorf("zombies: %v", z)
	}
}

// zombies lists this process's dead children.
func zombies(t testing.TB) []string {
	t.Helper()
	self := fmt.Sprint(os.Getpid())
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range dirs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		rest := string(b[bytes.LastIndexByte(b, ')')+1:])
		if fields := strings.Fields(rest); len(fields) > 1 && fields[0] == "Z" && fields[1] == self {
			found = append(found, string(b[:bytes.LastIndexByte(b, ')')+1]))
		}
	}
	return found
}

func TestGuestRunInOneOperation(t *testing.T) {
	g := newGuest(t)
	t.Run("container", func(t *testing.T) {
		s := g.outputs()
		if exit, out := g.run(g.container("run", g.spec("echo", "hello"), s), s); exit.Code != 0 || out != "hello\n" {
			t.Errorf("run = %v, %q; want code 0, %q", exit, out, "hello\n")
		}
	})
	t.Run("outside", func(t *testing.T) {
		s := g.outputs()
		if exit, out := g.run(g.exec("run", "", s, "busybox", "echo", "hello"), s); exit.Code != 0 || out != "hello\n" {
			t.Errorf("run = %v, %q; want code 0, %q", exit, out, "hello\n")
		}
	})
	noLeftovers(t)
}

func TestGuestStdin(t *testing.T) {
	g := newGuest(t)
	input := make([]byte, 3<<20+17)
	rnd, _ := os.Open("/dev/urandom")
	_, _ = io.ReadFull(rnd, input)
	_ = rnd.Close()
	s := g.listen(g.port.Add(1), input, pb.Stream_STREAM_STDOUT)
	exit, out := g.run(g.container("sum", g.spec("sha256sum"), s), s)
	if want := fmt.Sprintf("%x  -\n", sha256.Sum256(input)); exit.Code != 0 || out != want {
		t.Errorf("sha256sum = %v, %q; want %q", exit, out, want)
	}
}

func TestGuestStartErrors(t *testing.T) {
	g := newGuest(t)
	write(t, filepath.Join(g.rootfs, "bin/plain"), "not a program\n", 0o644)
	write(t, filepath.Join(g.rootfs, "bin/nointerp"), "#!/bin/nope\n", 0o755)
	write(t, filepath.Join(g.rootfs, "bin/noexec"), "\x7fELF garbage", 0o755)
	for _, tt := range []struct {
		name string
		spec func(*specs.Spec)
		kind error
		step string
	}{
		{"missing by path", func(s *specs.Spec) { s.Process.Args = []string{"/bin/nope"} }, errdefs.ErrNotFound, "exec /bin/nope"},
		{"missing in PATH", func(s *specs.Spec) { s.Process.Args = []string{"nope"} }, errdefs.ErrNotFound, "exec nope"},
		{"not executable", func(s *specs.Spec) { s.Process.Args = []string{"/bin/plain"} }, errdefs.ErrPermissionDenied, "exec /bin/plain"},
		{"a directory", func(s *specs.Spec) { s.Process.Args = []string{"/bin"} }, errdefs.ErrPermissionDenied, "exec /bin"},
		{"missing interpreter", func(s *specs.Spec) { s.Process.Args = []string{"nointerp"} }, errdefs.ErrNotFound, "exec nointerp"},
		{"no format", func(s *specs.Spec) { s.Process.Args = []string{"noexec"} }, errdefs.ErrPermissionDenied, "exec noexec"},
		{"terminal, missing", func(s *specs.Spec) { s.Process.Terminal = true; s.Process.Args = []string{"nope"} }, errdefs.ErrNotFound, "exec nope"},
		{"no such user", func(s *specs.Spec) { s.Process.User.Username = "nobody-here" }, errdefs.ErrInvalidArgument, "user nobody-here"},
		{"cwd is a file", func(s *specs.Spec) { s.Process.Cwd = "/etc/passwd" }, errdefs.ErrInvalidArgument, ""},
		{"no rootfs", func(s *specs.Spec) { s.Root.Path = "/nowhere" }, errdefs.ErrInvalidArgument, ""},
		{"bad mount", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "nofs", Source: "x"})
		}, errdefs.ErrInvalidArgument, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := g.spec("true")
			tt.spec(spec)
			c := g.container("bad", spec, nil)
			c.Start, c.Wait = true, true
			e := g.fails(createReq(c), tt.kind)
			t.Logf("%v", e)
			if tt.step != "" && (len(e.Steps) == 0 || e.Steps[len(e.Steps)-1] != tt.step) {
				t.Errorf("steps = %q; want the last to be %q", e.Steps, tt.step)
			}
			if list := g.must(listReq()).GetListed().Processes; len(list) != 0 {
				t.Errorf("List() = %v; want nothing left", list)
			}
			noLeftovers(t)
		})
	}
}

func TestGuestExecErrors(t *testing.T) {
	g := newGuest(t)
	write(t, filepath.Join(g.rootfs, "bin/plain"), "not a program\n", 0o644)
	g.must(createReq(g.container("c", g.spec("sleep", "1000"), nil)))
	g.fails(createReq(g.exec("x", "nope", nil, "true")), errdefs.ErrNotFound)
	g.must(startReq("c"))
	for _, tt := range []struct {
		name string
		set  func(*pb.Process)
		kind error
	}{
		{"missing", func(p *pb.Process) { p.Args = []string{"nope"} }, errdefs.ErrNotFound},
		{"not executable", func(p *pb.Process) { p.Args = []string{"/bin/plain"} }, errdefs.ErrPermissionDenied},
		{"no such user", func(p *pb.Process) { p.User = &pb.User{Username: "nobody-here"} }, errdefs.ErrInvalidArgument},
		{"username and uid", func(p *pb.Process) { p.User = &pb.User{Username: "web", Uid: 3} }, errdefs.ErrInvalidArgument},
		{"cwd is a file", func(p *pb.Process) { p.Cwd = "/etc/passwd" }, errdefs.ErrInvalidArgument},
		{"cwd outside", func(p *pb.Process) { p.Cwd = "/proc/self/fd/7" }, errdefs.ErrInvalidArgument},
		{"no args", func(p *pb.Process) { p.Args = nil }, errdefs.ErrInvalidArgument},
		{"env without =", func(p *pb.Process) { p.Env = []string{"x"} }, errdefs.ErrInvalidArgument},
		{"capability", func(p *pb.Process) { p.Capabilities = &pb.Capabilities{Bounding: []string{"CAP_NONE"}} }, errdefs.ErrInvalidArgument},
		{"rlimit", func(p *pb.Process) { p.Rlimits = []*pb.Rlimit{{Type: "RLIMIT_X"}} }, errdefs.ErrInvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := g.exec("x", "c", nil, "true")
			tt.set(c.GetExec().Process)
			c.Start = true
			t.Logf("%v", g.fails(createReq(c), tt.kind))
			if list := g.must(listReq()).GetListed().Processes; len(list) != 1 {
				t.Errorf("List() = %v; want only the container", list)
			}
		})
	}
}

func TestGuestExec(t *testing.T) {
	g := newGuest(t)
	g.must(createReq(g.container("c", g.spec("sleep", "1000"), nil)))
	g.must(startReq("c"))
	t.Run("user", func(t *testing.T) {
		s := g.outputs()
		c := g.exec("x", "c", s, "sh", "-c", "id; echo $HOME; pwd")
		c.GetExec().Process.User = &pb.User{Username: "web"}
		c.GetExec().Process.Cwd = "/made/for/it"
		exit, out := g.run(c, s)
		want := "uid=1000(web) gid=1001(web) groups=50(staff)\n/home/web\n/made/for/it\n"
		if exit.Code != 0 || out != want {
			t.Errorf("exec = %v, %q; want %q", exit, out, want)
		}
	})
	t.Run("capabilities are the container's", func(t *testing.T) {
		s := g.outputs()
		if _, out := g.run(g.exec("x", "c", s, "sh", "-c", "cat /proc/self/status | busybox grep CapBnd"), s); !strings.HasSuffix(out, "0000000000000021\n") {
			t.Errorf("CapBnd = %q; want those of the container", out)
		}
	})
	t.Run("signal", func(t *testing.T) {
		g.must(createReq(g.exec("x", "c", nil, "sleep", "1000")))
		g.fails(killReq("x", 15, false), errdefs.ErrFailedPrecondition)
		g.must(startReq("x"))
		g.fails(startReq("x"), errdefs.ErrFailedPrecondition)
		g.fails(deleteReq("x", false), errdefs.ErrFailedPrecondition)
		g.fails(deleteReq("c", false), errdefs.ErrFailedPrecondition)
		g.must(killReq("x", 15, false))
		if d := g.must(waitReq("x")).GetDrained(); d.Exited.Signal != 15 {
			t.Errorf("Wait() = %v; want signal 15", d.Exited)
		}
		g.must(deleteReq("x", false))
	})
	t.Run("survivors", func(t *testing.T) {
		s := g.outputs()
		g.must(createReq(g.exec("x", "c", s, "sh", "-c", `sleep 500 & until read name </proc/$!/comm && [ $name = sleep ]; do :; done; echo up; wait`)))
		g.must(startReq("x"))
		waitFor(t, "the process's output", func() bool { out, _ := s.output(pb.Stream_STREAM_STDOUT); return out == "up\n" })
		d := g.must(deleteReq("x", true)).GetDeleted()
		if len(d.Survivors) != 1 || d.Survivors[0].Name != "sleep" || d.Survivors[0].ContainerPid == 0 {
			t.Errorf("survivors = %v; want the sleep", d.Survivors)
		}
	})
	g.must(createReq(g.exec("late", "c", nil, "true")))
	g.must(deleteReq("c", true))
	if list := g.must(listReq()).GetListed().Processes; len(list) != 0 {
		t.Errorf("List() = %v; want nothing", list)
	}
	noLeftovers(t)
}

// waitFor waits for a condition that nothing announces.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longTime); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func TestGuestKill(t *testing.T) {
	g := newGuest(t)
	start := func(t *testing.T, script string) *streams {
		s := g.outputs()
		g.must(createReq(g.container("c", g.spec("sh", "-c", script), s)))
		g.must(startReq("c"))
		waitFor(t, "the container's output", func() bool { out, _ := s.output(pb.Stream_STREAM_STDOUT); return strings.HasPrefix(out, "up\n") })
		return s
	}
	t.Run("kill", func(t *testing.T) {
		start(t, "echo up; sleep 1000")
		g.must(killReq("c", uint32(unix.SIGKILL), false))
		if d := g.must(waitReq("c")).GetDrained(); d.Exited.Signal != 9 || d.Exited.OomKilled {
			t.Errorf("Wait() = %v; want signal 9", d.Exited)
		}
		g.must(deleteReq("c", false))
	})
	t.Run("all, trapped", func(t *testing.T) {
		s := start(t, `trap "echo one; exit 7" USR1; sh -c 'trap "echo two; exit" USR1; echo up; while :; do sleep 0.1; done' & wait; wait; exit 8`)
		g.must(killReq("c", uint32(unix.SIGUSR1), true))
		d := g.must(waitReq("c")).GetDrained()
		if out, _ := s.output(pb.Stream_STREAM_STDOUT); d.Exited.Code != 7 || !strings.Contains(out, "one") {
			t.Errorf("Wait() = %v, output %q; want code 7", d.Exited, out)
		}
		g.must(deleteReq("c", false))
	})
	t.Run("all, SIGKILL", func(t *testing.T) {
		start(t, "sleep 1000 & echo up; wait")
		g.must(killReq("c", uint32(unix.SIGKILL), true))
		if d := g.must(waitReq("c")).GetDrained(); d.Exited.Signal != 9 {
			t.Errorf("Wait() = %v; want signal 9", d.Exited)
		}
		g.must(deleteReq("c", false))
	})
	t.Run("created", func(t *testing.T) {
		g.must(createReq(g.container("c", g.spec("true"), nil)))
		g.must(killReq("c", uint32(unix.SIGKILL), false))
		if d := g.must(waitReq("c")).GetDrained(); d.Exited.Signal != 9 || d.Exited.StartedAt != 0 {
			t.Errorf("Wait() = %v; want signal 9, never started", d.Exited)
		}
		g.fails(startReq("c"), errdefs.ErrFailedPrecondition)
		g.must(deleteReq("c", false))
	})
	t.Run("deleted before start", func(t *testing.T) {
		g.must(createReq(g.container("c", g.spec("true"), nil)))
		w := g.begin(waitReq("c"))
		waitFor(t, "the wait", func() bool { return len(g.must(listReq()).GetListed().Processes) == 1 })
		g.must(deleteReq("c", false))
		if resp, err := w.result(); err == nil && resp.GetDrained().Exited.StartedAt != 0 {
			t.Errorf("Wait() = %v, %v; want a status without a start", resp, err)
		}
	})
	t.Run("out of memory", func(t *testing.T) {
		spec := g.spec("sh", "-c", "x=a; while :; do x=$x$x; done")
		limit := int64(16 << 20)
		spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
		c := g.container("c", spec, nil)
		c.Start, c.Wait = true, true
		if d := g.must(createReq(c)).GetDrained(); d.Exited.Signal != 9 || !d.Exited.OomKilled {
			t.Errorf("Wait() = %v; want killed for lack of memory", d.Exited)
		}
		g.must(deleteReq("c", false))
	})
	noLeftovers(t)
}

func TestGuestTerminal(t *testing.T) {
	g := newGuest(t)
	script := "stty size; test -t 0 && test -t 1 && test -t 2 && echo tty"
	check := func(t *testing.T, c *pb.Create, s *streams) {
		t.Helper()
		c.Size = &pb.Size{Columns: 91, Rows: 17}
		if exit, out := g.run(c, s); exit.Code != 0 || out != "17 91\r\ntty\r\n" {
			t.Errorf("terminal = %v, %q; want its size and tty", exit, out)
		}
	}
	t.Run("container", func(t *testing.T) {
		spec := g.spec("sh", "-c", script)
		spec.Process.Terminal = true
		s := g.listen(g.port.Add(1), nil, pb.Stream_STREAM_STDOUT)
		check(t, g.container("c", spec, s), s)
	})
	t.Run("exec", func(t *testing.T) {
		g.must(createReq(g.container("c", g.spec("sleep", "1000"), nil)))
		g.must(startReq("c"))
		s := g.listen(g.port.Add(1), nil, pb.Stream_STREAM_STDOUT)
		c := g.exec("x", "c", s, "sh", "-c", script)
		c.GetExec().Process.Terminal = true
		check(t, c, s)
	})
	g.deleteAll()
	noLeftovers(t)
}

func TestGuestOOMEvent(t *testing.T) {
	g := newGuest(t)
	spec := g.spec("sh", "-c", "sh -c 'x=a; while :; do x=$x$x; done'; sleep 1000")
	limit := int64(16 << 20)
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	w := g.begin(&pb.Request{Op: &pb.Request_Watch{Watch: &pb.Watch{}}})
	if e := w.progress().GetEvent(); e.GetSynced() == nil {
		t.Fatalf("first event = %v; want synced", e)
	}
	g.must(createReq(g.container("c", spec, nil)))
	g.must(startReq("c"))
	for {
		if e := w.progress().GetEvent(); e.GetOom() != nil {
			if e.GetOom().Id != "c" {
				t.Errorf("oom event = %v; want container c", e)
			}
			break
		}
	}
	w.cancel()
	if list := g.must(listReq()).GetListed().Processes; len(list) != 1 || list[0].State != pb.State_STATE_RUNNING {
		t.Errorf("List() = %v; want the container running", list)
	}
}

// freeze freezes or thaws the cgroup of a container behind the agent's back.
func freeze(t testing.TB, id, value string) {
	t.Helper()
	dir := filepath.Join("/sys/fs/cgroup/bellhop-test", id)
	write(t, filepath.Join(dir, "cgroup.freeze"), value, 0o644)
	if value == "1" {
		waitFor(t, "the freeze", func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, "cgroup.events"))
			return strings.Contains(string(b), "frozen 1")
		})
	}
}

func TestGuestFrozen(t *testing.T) {
	g := newGuest(t)
	g.must(createReq(g.container("c", g.spec("sleep", "1000"), nil)))
	freeze(t, "c", "1")
	g.fails(createReq(g.exec("x", "c", nil, "true")), errdefs.ErrFailedPrecondition)
	g.must(deleteReq("c", true))
	noLeftovers(t)
}

// TestGuestFrozenStart freezes a process outside containers while it starts: only the start hangs, and cancelling it leaves the process as it was.
func TestGuestFrozenStart(t *testing.T) {
	g := newGuest(t)
	g.must(createReq(g.exec("x", "", nil, "busybox", "true")))
	freeze(t, "x", "1")
	st := g.begin(startReq("x"))
	g.must(&pb.Request{Op: &pb.Request_Ping{Ping: &pb.Ping{}}})
	s := g.outputs()
	if exit, out := g.run(g.exec("y", "", s, "busybox", "echo", "hi"), s); exit.Code != 0 || out != "hi\n" {
		t.Errorf("another exec = %v, %q; want %q", exit, out, "hi\n")
	}
	st.cancel()
	g.must(deleteReq("x", true))
	noLeftovers(t)
}

func TestGuestMount(t *testing.T) {
	g := newGuest(t)
	target := filepath.Join(t.TempDir(), "a/b")
	mount := func(m *pb.Mount) *pb.Request { return &pb.Request{Op: &pb.Request_Mount{Mount: m}} }
	unmount := func(target string) *pb.Request {
		return &pb.Request{Op: &pb.Request_Unmount{Unmount: &pb.Unmount{Target: target}}}
	}
	g.must(mount(&pb.Mount{Source: "scratch", Target: target, Type: "tmpfs", Options: []string{"nosuid,size=1m", "mode=0700"}}))
	write(t, filepath.Join(target, "file"), "x", 0o644)
	bound := filepath.Join(t.TempDir(), "bound")
	g.must(mount(&pb.Mount{Source: target, Target: bound, Type: "bind", Options: []string{"ro"}}))
	if err := os.WriteFile(filepath.Join(bound, "file"), nil, 0o644); err == nil {
		t.Error("writing to a read-only bind mount succeeded")
	}
	file := filepath.Join(t.TempDir(), "dir/bound-file")
	g.must(mount(&pb.Mount{Source: filepath.Join(target, "file"), Target: file, Options: []string{"bind"}}))
	g.fails(unmount(target+"/nope"), errdefs.ErrNotFound)
	g.must(unmount(file))
	g.must(unmount(bound))
	g.fails(unmount(bound), errdefs.ErrNotFound)
	f, err := os.Open(filepath.Join(target, "file"))
	if err != nil {
		t.Fatal(err)
	}
	g.fails(unmount(target), errdefs.ErrFailedPrecondition)
	_ = f.Close()
	g.must(unmount(target))
	e := g.fails(mount(&pb.Mount{Source: "/dev/nope", Target: target + "/x", Type: "ext4"}), errdefs.ErrNotFound)
	if want := "mount /dev/nope (ext4) on " + target + "/x"; len(e.Steps) != 1 || e.Steps[0] != want {
		t.Errorf("steps = %q; want %q", e.Steps, want)
	}
	if _, err := os.Stat(target + "/x"); !os.IsNotExist(err) {
		t.Errorf("Stat(target of a failed mount) = %v; want that it is not there", err)
	}
}

// TestGuestManyExecs runs execs side by side and checks that nothing grows.
func TestGuestManyExecs(t *testing.T) {
	g := newGuest(t)
	g.must(createReq(g.container("c", g.spec("sleep", "1000"), nil)))
	g.must(startReq("c"))
	const workers, rounds = 8, 12
	round := func(worker int) error {
		for i := range rounds {
			c := g.exec(fmt.Sprintf("x%d", worker), "c", nil, "sh", "-c", fmt.Sprintf("exit %d", i))
			c.Start, c.Wait = true, true
			resp, err := g.do(createReq(c))
			if err != nil {
				return err
			}
			if code := resp.GetDrained().Exited.Code; code != int32(i) {
				return fmt.Errorf("exit code %d; want %d", code, i)
			}
			if _, err := g.do(deleteReq(c.Id, false)); err != nil {
				return err
			}
		}
		return nil
	}
	all := func() {
		errs := make(chan error, workers)
		for w := range workers {
			go func() { errs <- round(w) }()
		}
		for range workers {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
	all()
	fds, goroutines := countFDs(t), runtime.NumGoroutine()
	start := time.Now()
	all()
	t.Logf("%d execs in %v", workers*rounds, time.Since(start))
	waitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	if n := countFDs(t); n > fds+2 {
		t.Errorf("%d file descriptors after, %d before", n, fds)
	}
	g.must(deleteReq("c", true))
	noLeftovers(t)
}

func countFDs(t testing.TB) int {
	t.Helper()
	runtime.GC() // os.Process handles of libcontainer
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// TestGuestRepeat sends creates and starts again over another connection, as a client does that lost the answer.
func TestGuestRepeat(t *testing.T) {
	g := newGuest(t)
	other := dialAgent(t, g.addr, g.dir)
	create, start := createReq(g.container("c", g.spec("sleep", "1000"), nil)), startReq("c")
	first := g.begin(create)
	first.cancel() // whatever became of it, the repeat makes exactly one
	g.must(create)
	other.must(create)
	a, b := g.must(start).GetStarted(), other.must(start).GetStarted()
	if a.Pid != b.Pid || a.StartedAt != b.StartedAt {
		t.Errorf("repeated Start() = %v, then %v; want the same", a, b)
	}
	kill, del := killReq("c", 9, false), deleteReq("c", true)
	g.must(kill)
	g.must(waitReq("c"))
	other.must(kill)
	g.must(del)
	other.must(del)
	noLeftovers(t)
}

// TestGuestConcurrentDelete deletes a running container from several sides: one does it, the others are told that it is gone.
func TestGuestConcurrentDelete(t *testing.T) {
	g := newGuest(t)
	g.must(createReq(g.container("c", g.spec("sleep", "1000"), nil)))
	g.must(startReq("c"))
	for i := range 4 {
		g.must(createReq(g.exec(fmt.Sprintf("x%d", i), "c", nil, "sleep", "1000")))
		g.must(startReq(fmt.Sprintf("x%d", i)))
	}
	const callers = 8
	errs := make(chan error, callers)
	for range callers {
		go func() {
			_, err := g.do(deleteReq("c", true))
			errs <- err
		}()
	}
	done := 0
	for range callers {
		err := <-errs
		if err == nil {
			done++
		} else if !errdefs.IsNotFound(err) {
			t.Errorf("Delete() = %v; want success or not found", err)
		}
	}
	if done != 1 {
		t.Errorf("%d of %d deletes succeeded; want 1", done, callers)
	}
	noLeftovers(t)
}
