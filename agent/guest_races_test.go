//go:build linux

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// races is how often a container is made while another one exchanges files beneath it.
const races = 5

// attackMountRace: CVE-2021-30465. Another container that shares the volume exchanges the directory of a mount for a link, so that the mount would be made outside.
func attackMountRace(t *testing.T, g *guest) {
	volume := t.TempDir()
	g.attacker(t, shares(g.spec("sh", "-c", `cd /tmp; busybox mkdir -p d; busybox ln -s ../../../../../../../../run l; echo up
		while :; do busybox mv d e; busybox mv l d; busybox mv d l; busybox mv e d; done 2>/dev/null`), volume))
	for i := range races {
		spec := shares(g.spec("sh", "-c", "busybox cat /proc/self/mountinfo; echo owned >/tmp/d/owned"), volume)
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp/d", Type: "tmpfs", Source: "raced"})
		// A link may lead the mount to another place in the container's own root.
		out := g.tryOnce(t, fmt.Sprint("r", i), spec)
		if n, want := strings.Count(out, "\n"), 1+len(spec.Mounts); out != "" && n != want {
			t.Errorf("the container has %d mounts; want %d: %s", n, want, out)
		}
	}
	for _, path := range []string{"/run/owned", "/owned"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("the container has written to the guest's %s", path)
		}
	}
	g.must(deleteReq("evil", true))
}

// attackMaskRace: CVE-2025-31133. Another container that shares the root exchanges /dev/null, which masked files are covered with, for a link to what shall become writable.
func attackMaskRace(t *testing.T, g *guest) {
	evil := g.spec("sh", "-c", `busybox ln -s /proc/sys/kernel/core_pattern /host/dev/lure; echo up
		while :; do busybox mv /host/dev/null /host/dev/kept; busybox mv /host/dev/lure /host/dev/null; busybox mv /host/dev/null /host/dev/lure; busybox mv /host/dev/kept /host/dev/null; done 2>/dev/null`)
	g.attacker(t, sharesRoot(t, g, evil))
	for i := range races {
		spec := g.spec("sh", "-c", "echo '|/owned' >/proc/latency_stats; echo '|/owned' >/proc/timer_list; busybox head -c 100 /proc/timer_list; true")
		spec.Mounts = withoutDev(spec.Mounts)
		spec.Linux.MaskedPaths = []string{"/proc/latency_stats", "/proc/timer_list", "/proc/keys"}
		spec.Linux.ReadonlyPaths = []string{"/proc/sys"}
		if out := g.tryOnce(t, fmt.Sprint("r", i), spec); strings.TrimSpace(out) != "" {
			t.Errorf("a masked file says %q; want nothing", out)
		}
	}
	g.must(deleteReq("evil", true))
}

// attackConsoleRace: CVE-2025-52565. The same with /dev/console and /dev/pts of a container with a terminal.
func attackConsoleRace(t *testing.T, g *guest) {
	evil := g.spec("sh", "-c", `busybox ln -s /proc/sys/kernel/core_pattern /host/dev/clure; : >/host/dev/console; echo up
		while :; do busybox mv /host/dev/console /host/dev/ckept; busybox mv /host/dev/clure /host/dev/console; busybox mv /host/dev/console /host/dev/clure; busybox mv /host/dev/ckept /host/dev/console; done 2>/dev/null`)
	g.attacker(t, sharesRoot(t, g, evil))
	for i := range races {
		spec := g.spec("sh", "-c", "echo '|/owned' >/dev/console; echo '|/owned' >/proc/sys/kernel/core_pattern; true")
		spec.Mounts = withoutDev(spec.Mounts)
		spec.Linux.ReadonlyPaths = []string{"/proc/sys"}
		spec.Process.Terminal = true
		g.tryOnce(t, fmt.Sprint("r", i), spec)
	}
	g.must(deleteReq("evil", true))
}

// attackDevIsALink: CVE-2026-41579. The image's /dev leads out of it, where files would be removed and made.
func attackDevIsALink(t *testing.T, g *guest) {
	lure := t.TempDir()
	write(t, filepath.Join(lure, "ptmx"), "mine", 0o644)
	dev := filepath.Join(g.rootfs, "dev")
	if err := errorsOf(os.RemoveAll(dev), os.Symlink(lure, dev)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errorsOf(os.Remove(dev), os.MkdirAll(filepath.Join(dev, "pts"), 0o755)) }()
	spec := g.spec("true")
	spec.Mounts = withoutDev(spec.Mounts)
	c := g.container("r", spec, nil)
	c.Start, c.Wait = true, true
	if _, err := g.do(createReq(c)); err == nil {
		g.must(deleteReq("r", true))
	}
	entries, err := os.ReadDir(lure)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory outside has %v, %v; want its one file", entries, err)
	}
	if b, err := os.ReadFile(filepath.Join(lure, "ptmx")); err != nil || string(b) != "mine" {
		t.Errorf("the file outside is %q, %v; want it untouched", b, err)
	}
}

// attackInheritable: CVE-2022-29162, CVE-2022-24769. Inheritable capabilities that nobody asked for would let a file's inheritable ones come true.
func attackInheritable(t *testing.T, g *guest) {
	g.attacker(t, g.spec("sh", "-c", "echo up; sleep 1000"))
	for _, uid := range []uint32{0, 1000} {
		x := g.outputs()
		c := g.exec("x", "evil", x, "busybox", "grep", "-E", "CapInh|CapAmb", "/proc/self/status")
		c.GetExec().Process.User = &pb.User{Uid: uid}
		if exit, out := g.run(c, x); exit.Code != 0 || out != "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n" {
			t.Errorf("capabilities of an exec as %d = %q, %v; want none", uid, out, exit)
		}
	}
	g.must(deleteReq("evil", true))
}

// tryOnce takes a container from creation to deletion. It may be refused.
func (g *guest) tryOnce(t *testing.T, id string, spec *specs.Spec) string {
	t.Helper()
	for _, name := range []string{"fd", "stdin", "stdout", "stderr", "core", "ptmx"} { // what a container before has left where /dev is the root's own
		_ = os.Remove(filepath.Join(g.rootfs, "dev", name))
	}
	s := g.outputs()
	if spec.Process.Terminal {
		s = g.listen(g.port.Add(1), nil, pb.Stream_STREAM_STDOUT)
	}
	c := g.container(id, spec, s)
	c.Start, c.Wait = true, true
	if _, err := g.do(createReq(c)); err != nil {
		t.Logf("refused: %.200v", err)
		return ""
	}
	g.must(deleteReq(id, true))
	out, _ := s.output(pb.Stream_STREAM_STDOUT)
	return out
}

// shares gives a container a volume in /tmp.
func shares(spec *specs.Spec, volume string) *specs.Spec {
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: volume, Options: []string{"rbind", "rw"}})
	return spec
}

// sharesRoot gives a container the root of the others in /host.
func sharesRoot(t *testing.T, g *guest, spec *specs.Spec) *specs.Spec {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(g.rootfs, "host"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/host", Type: "bind", Source: g.rootfs, Options: []string{"bind", "rw"}})
	return spec
}

// withoutDev leaves /dev to the root's own directory.
func withoutDev(mounts []specs.Mount) []specs.Mount {
	var out []specs.Mount
	for _, m := range mounts {
		if m.Destination != "/dev" {
			out = append(out, m)
		}
	}
	return out
}

// TestGuestNobodyListens has a host that does not take a stream, which the agent learns when it has made the container.
func TestGuestNobodyListens(t *testing.T) {
	g := newGuest(t)
	g.failsToConnect(g.container("c", g.spec("true"), nil))
	if list := g.must(listReq()).GetListed().Processes; len(list) != 0 {
		t.Errorf("List() = %v; want nothing left", list)
	}
	noLeftovers(t)
}

// TestGuestKilledWhileMade has the first process killed when it has given up its capabilities, and so is about to get its filter. The making fails for that, or is just over: nobody waits for the dead, and
// nothing is left.
func TestGuestKilledWhileMade(t *testing.T) {
	g := newGuest(t)
	for range 3 {
		spec := g.spec("true")
		deny(spec, "mkdir")
		create := g.begin(createReq(g.container("c", spec, nil)))
		killReduced(t, "/sys/fs/cgroup/bellhop-test/c/cgroup.procs")
		if _, err := create.result(); err == nil {
			g.must(deleteReq("c", true))
		} else if strings.Contains(err.Error(), os.ErrDeadlineExceeded.Error()) {
			t.Errorf("Create() = %v; want an error at once", err)
		}
	}
	noLeftovers(t)
}

// killReduced kills the first process of a list that has the capabilities of guest.spec only. It looks without a rest: there is little time.
func killReduced(t *testing.T, list string) {
	t.Helper()
	for deadline := time.Now().Add(longTime); time.Now().Before(deadline); {
		pids, _ := os.ReadFile(list)
		for _, text := range strings.Fields(string(pids)) {
			status, _ := os.ReadFile("/proc/" + text + "/status")
			if !strings.Contains(string(status), "CapPrm:\t0000000000000021\n") { // CAP_CHOWN and CAP_KILL
				continue
			}
			pid, err := strconv.Atoi(text)
			if err == nil {
				err = unix.Kill(pid, unix.SIGKILL)
			}
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Fatal("waited for a process with few capabilities in vain")
}

// TestGuestCancelledWhileMade cancels the creation of a container that its own hook holds up: when its cgroup is there and nobody in it yet, and when the hook runs.
func TestGuestCancelledWhileMade(t *testing.T) {
	g := newGuest(t)
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(t.TempDir(), "runs")
	spec := g.spec("true")
	spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: box, Args: []string{"sh", "-c", "echo >" + mark + "; exec busybox sleep 600"}, Env: []string{"PATH=" + filepath.Dir(box)}, Timeout: ptr(600)}}}
	for _, there := range []string{"/sys/fs/cgroup/bellhop-test/c", mark} {
		c := g.begin(createReq(g.container("c", spec, nil)))
		waitFor(t, there, func() bool { _, err := os.Stat(there); return err == nil })
		c.cancel()
		waitFor(t, "the id to be free", func() bool { _, err := g.do(createReq(g.container("c", g.spec("true"), nil))); return err == nil })
		g.must(deleteReq("c", true))
	}
	noLeftovers(t)
}
