//go:build linux

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// TestGuestHugeErrors has errors of more than a pipe holds come out of a container's creation.
func TestGuestHugeErrors(t *testing.T) {
	g := newGuest(t)
	long := "/" + strings.Repeat("x/", 100<<10)
	for name, set := range map[string]func(*specs.Spec){
		"program": func(s *specs.Spec) { s.Process.Args = []string{long} },
		"mount": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: long, Type: "tmpfs", Source: "x"})
		},
		"sysctl": func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4." + strings.Repeat("x", 100<<10): "1"}
		},
	} {
		spec := g.spec("true")
		set(spec)
		c := g.container("bad", spec, nil)
		c.Start = true
		if resp, err := g.do(createReq(c)); err == nil || len(err.Error()) > 16<<10 {
			t.Errorf("%s: Create() = %v, an error of %d bytes; want a short one", name, resp, len(fmt.Sprint(err)))
		}
	}
	noLeftovers(t)
}

// TestGuestStoppedContainer has a container stop everything that it can see, itself too. The agent goes on.
func TestGuestStoppedContainer(t *testing.T) {
	g := newGuest(t)
	s := g.outputs()
	g.must(createReq(g.container("c", g.spec("sh", "-c", "echo up; while :; do kill -STOP -1; done"), s)))
	g.must(startReq("c"))
	waitFor(t, "the container", func() bool { out, _ := s.output(pb.Stream_STREAM_STDOUT); return out == "up\n" })
	for i := range 5 {
		c := g.exec(fmt.Sprint("x", i), "c", nil, "true")
		g.must(createReq(c))
		// It may be stopped before or after its execve: its start may hang, but only that.
		st := g.begin(startReq(c.Id))
		g.must(&pb.Request{Op: &pb.Request_Ping{Ping: &pb.Ping{}}})
		defer st.cancel()
	}
	begin := time.Now()
	g.must(deleteReq("c", true))
	t.Logf("deleted after %v", time.Since(begin))
	if n := len(g.must(listReq()).GetListed().Processes); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	noLeftovers(t)
}

// TestGuestForkBomb is deleted within its limit of processes.
func TestGuestForkBomb(t *testing.T) {
	g := newGuest(t)
	spec := g.spec("sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 1000")
	limit := int64(100)
	spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	g.must(createReq(g.container("c", spec, nil)))
	g.must(startReq("c"))
	g.must(deleteReq("c", true))
	noLeftovers(t)
}

// TestGuestSharedPIDs has a container without a pid namespace of its own, so that its processes outlive the first one: deleting ends them.
func TestGuestSharedPIDs(t *testing.T) {
	g := newGuest(t)
	spec := g.spec("sh", "-c", "sleep 1000 & echo up")
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	g.must(createReq(g.container("c", spec, nil)))
	g.must(startReq("c"))
	if d := g.must(waitReq("c")).GetDrained(); d.Exited.Code != 0 {
		t.Errorf("Wait() = %v; want code 0", d.Exited)
	}
	g.must(deleteReq("c", false))
	noLeftovers(t)
}

// TestGuestNestedCgroups has a container make cgroups in its own, with controllers: execs still find a place, and all of it is removed.
func TestGuestNestedCgroups(t *testing.T) {
	g := newGuest(t)
	spec := g.spec("sh", "-c", `cd /sys/fs/cgroup && busybox mkdir -p a/b init && echo $$ >init/cgroup.procs && echo +memory >cgroup.subtree_control && echo up; sleep 1000`)
	s := g.outputs()
	g.must(createReq(g.container("c", spec, s)))
	g.must(startReq("c"))
	waitFor(t, "the cgroups", func() bool { out, _ := s.output(pb.Stream_STREAM_STDOUT); return out == "up\n" })
	x := g.outputs()
	if exit, out := g.run(g.exec("x", "c", x, "echo", "in"), x); exit.Code != 0 || out != "in\n" {
		t.Errorf("exec = %v, %q; want in", exit, out)
	}
	g.must(deleteReq("c", true))
	noLeftovers(t)
}

func TestGuestCgroupPath(t *testing.T) {
	g := newGuest(t)
	spec := g.spec("sleep", "1000")
	spec.Linux.CgroupsPath = "/pod/c1"
	g.must(createReq(g.container("c1", spec, nil)))
	if _, err := os.Stat("/sys/fs/cgroup/bellhop-test/pod/c1/cgroup.procs"); err != nil {
		t.Errorf("the spec's cgroup: %v", err)
	}
	g.fails(createReq(g.container("c2", spec, nil)), errdefs.ErrAlreadyExists)
	spec.Linux.CgroupsPath = "/pod"
	g.fails(createReq(g.container("c2", spec, nil)), errdefs.ErrAlreadyExists)
	spec.Linux.CgroupsPath = "../.."
	g.fails(createReq(g.container("c2", spec, nil)), errdefs.ErrInvalidArgument)
	g.must(deleteReq("c1", true))
	if err := os.Remove("/sys/fs/cgroup/bellhop-test/pod"); err != nil { // the parent is nobody's
		t.Error(err)
	}
	noLeftovers(t)
}

func TestGuestUserNamespace(t *testing.T) {
	g := newGuest(t)
	for dir := g.rootfs; dir != "/"; dir = filepath.Dir(dir) { // the mapped root must get in
		_ = os.Chmod(dir, 0o755)
	}
	spec := g.spec("sh", "-c", "id -u; cat /proc/self/uid_map; echo err >&2; sleep 1000")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = spec.Linux.UIDMappings
	s := g.outputs()
	g.must(createReq(g.container("c", spec, s)))
	g.must(startReq("c"))
	waitFor(t, "the container's word on stderr", func() bool { out, _ := s.output(pb.Stream_STREAM_STDERR); return out == "err\n" })
	waitFor(t, "two lines on stdout", func() bool { out, _ := s.output(pb.Stream_STREAM_STDOUT); return strings.Count(out, "\n") == 2 })
	if out, _ := s.output(pb.Stream_STREAM_STDOUT); !strings.HasPrefix(out, "0\n") || !strings.Contains(out, "100000") {
		t.Errorf("stdout = %q; want root of the namespace", out)
	}
	x := g.outputs()
	c := g.exec("x", "c", x, "sh", "-c", "id -u; cat /proc/self/uid_map")
	c.GetExec().Process.User = &pb.User{Uid: 5, Gid: 6}
	if exit, out := g.run(c, x); exit.Code != 0 || !strings.HasPrefix(out, "5\n") || !strings.Contains(out, "100000") {
		t.Errorf("exec = %v, %q; want uid 5 of the namespace", exit, out)
	}
	g.must(deleteReq("c", true))
	noLeftovers(t)
}

// TestGuestHooks runs hooks; one that fails ends the creation, and one after the end does not hinder the delete.
func TestGuestHooks(t *testing.T) {
	g := newGuest(t)
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	hook := func(script string) []specs.Hook {
		return []specs.Hook{{Path: box, Args: []string{"sh", "-c", script}}}
	}
	mark := filepath.Join(t.TempDir(), "ran")
	for name, h := range map[string]*specs.Hooks{
		"createRuntime": {CreateRuntime: hook("exit 3")},
		"poststart":     {Poststart: hook("exit 3")},
	} {
		spec := g.spec("sleep", "1000")
		spec.Hooks = h
		c := g.container("bad", spec, nil)
		c.Start = true
		if resp, err := g.do(createReq(c)); err == nil {
			t.Errorf("%s: Create() with a failing hook = %v; want an error", name, resp)
		}
	}
	spec := g.spec("true")
	spec.Hooks = &specs.Hooks{CreateRuntime: hook("echo create >>" + mark), Poststop: hook("echo stop >>" + mark + "; exit 3")}
	c := g.container("c", spec, nil)
	c.Start, c.Wait = true, true
	g.must(createReq(c))
	g.must(deleteReq("c", false))
	if b, err := os.ReadFile(mark); err != nil || string(b) != "create\nstop\n" {
		t.Errorf("hooks left %q, %v; want both", b, err)
	}
	noLeftovers(t)
}

// TestGuestSeccomp gives the container's filter to an exec that asks for it, and only to that.
func TestGuestSeccomp(t *testing.T) {
	g := newGuest(t)
	spec := g.spec("sleep", "1000")
	spec.Process.NoNewPrivileges = true
	errno := uint(13)
	spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}},
	}
	g.must(createReq(g.container("c", spec, nil)))
	g.must(startReq("c"))
	for _, inherit := range []bool{true, false} {
		x := g.outputs()
		c := g.exec("x", "c", x, "busybox", "mkdir", fmt.Sprint("/tmp/", inherit))
		c.GetExec().Process.InheritSeccomp = inherit
		c.GetExec().Process.NoNewPrivileges = inherit
		if exit, _ := g.run(c, x); (exit.Code != 0) != inherit {
			t.Errorf("mkdir with inherited filter %v = %v", inherit, exit)
		}
	}
	g.must(deleteReq("c", true))
	noLeftovers(t)
}

// TestGuestCost prints what a whole exec costs (one operation over the wire, from create to drained) against a plain fork and exec of the same program, and against
// the nursery alone.
func TestGuestCost(t *testing.T) {
	g := newGuest(t)
	g.must(createReq(g.container("c", g.spec("sleep", "1000"), nil)))
	g.must(startReq("c"))
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.agent.table.Get("c")
	if err != nil {
		t.Fatal(err)
	}
	in := p.Task().(*container.Container)
	var plain, nurse, whole []time.Duration
	for i := range 40 {
		plain = append(plain, timed(func() {
			if err := exec.Command(box, "true").Run(); err != nil {
				t.Fatal(err)
			}
		}))
		e, err := in.Enter()
		if err != nil {
			t.Fatal(err)
		}
		nurse = append(nurse, timed(func() {
			child, err := g.agent.tasks.(*realTasks).spawner.Spawn(t.Context(), &nursery.Request{Init: e.Init, Cgroup: e.Cgroup, Args: []string{"/bin/busybox", "true"}})
			if err != nil {
				t.Fatal(err)
			}
			<-child.Exited
			_ = child.PIDFD.Close()
		}))
		_ = e.Close()
		whole = append(whole, timed(func() {
			c := g.exec(fmt.Sprint("x", i), "c", nil, "/bin/busybox", "true")
			c.Start, c.Wait = true, true
			g.must(createReq(c))
		}))
		g.must(deleteReq(fmt.Sprint("x", i), false))
	}
	for _, d := range [][]time.Duration{plain, nurse, whole} {
		slices.Sort(d)
	}
	base := float64(plain[20])
	t.Logf("p50: plain fork+exec+wait %v, nursery %v (%.2f), exec by one operation %v (%.2f)",
		plain[20], nurse[20], float64(nurse[20])/base, whole[20], float64(whole[20])/base)
	g.must(deleteReq("c", true))
}

func timed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}
