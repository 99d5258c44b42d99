//go:build linux

package agent

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// attackEnv makes this binary, in a container, an attacker (see TestMain): its value names the attack.
const attackEnv = "BELLHOP_TEST_ATTACK"

// traceAll attaches to every process that is not yet what the container asked for, that is, still the agent's binary. It says so if it can.
func traceAll() {
	fmt.Println("up")
	for {
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			var pid int
			_, _ = fmt.Sscanf(filepath.Base(dir), "%d", &pid)
			comm, err := os.ReadFile(dir + "/comm")
			if err != nil || !bytes.HasPrefix(comm, []byte("bellhop-nursery")) {
				continue
			}
			fmt.Println("seen")
			for _, request := range []uintptr{unix.PTRACE_ATTACH, unix.PTRACE_SEIZE} {
				if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, request, uintptr(pid), 0, 0, 0, 0); errno != 0 {
					continue
				}
				if now, _ := os.ReadFile(dir + "/comm"); bytes.Equal(now, comm) {
					fmt.Println("TRACED")
				}
				// It has become what the container asked for meanwhile, which may be traced, and shall go on.
				if request == unix.PTRACE_SEIZE {
					_ = unix.PtraceInterrupt(pid)
				}
				_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
				_ = unix.PtraceDetach(pid)
			}
			if mem, err := os.OpenFile(dir+"/mem", os.O_RDWR, 0); err == nil {
				if now, _ := os.ReadFile(dir + "/comm"); bytes.Equal(now, comm) {
					fmt.Println("MEMORY")
				}
				_ = mem.Close()
			}
		}
	}
}

// canary is what an attacker would like to change, and what it looks like.
type canary struct {
	binary, pattern, mounts string
}

func lookAtCanary(t *testing.T) canary {
	t.Helper()
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", nurseryPID(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return canary{fmt.Sprintf("%x", sum.Sum(nil)), read("/proc/sys/kernel/core_pattern"), read("/proc/self/mountinfo")}
}

// nurseryPID finds the nursery among this process's children.
func nurseryPID(t *testing.T) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range dirs {
		var pid, ppid int
		var comm, state string
		b, _ := os.ReadFile(f)
		if n, _ := fmt.Sscanf(string(b), "%d %s %s %d", &pid, &comm, &state, &ppid); n == 4 && comm == "(bellhop-nursery)" && ppid == os.Getpid() {
			return pid
		}
	}
	t.Fatal("there is no nursery")
	return 0
}

// TestGuestAttacks has containers attack what makes execs and containers. They gain nothing, and meanwhile another container's execs, kill and wait go on.
func TestGuestAttacks(t *testing.T) {
	g := newGuest(t)
	const usual = unix.MS_REMOUNT | unix.MS_NOSUID
	if err := unix.Mount("", "/tmp", "", usual, ""); err != nil { // roots have devices
		t.Fatal(err)
	}
	defer func() { _ = unix.Mount("", "/tmp", "", usual|unix.MS_NODEV, "") }()
	for dir := g.rootfs; dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755)
	}
	g.hold("other", func(*specs.Spec) {})
	before := lookAtCanary(t)
	for _, a := range []struct {
		name string
		run  func(*testing.T, *guest)
	}{
		{"Trace", attackTrace},
		{"OwnBinary", attackOwnBinary},
		{"Accounts", attackAccounts},
		{"FakeProc", attackFakeProc},
		{"ProcIsALink", attackProcIsALink},
		{"ProcIsAVolume", attackProcIsAVolume},
		{"MountRace", attackMountRace},
		{"MaskRace", attackMaskRace},
		{"ConsoleRace", attackConsoleRace},
		{"DevIsALink", attackDevIsALink},
		{"InheritableCapabilities", attackInheritable},
	} {
		t.Run(a.name, func(t *testing.T) {
			a.run(t, g)
			g.bystander(t)
		})
		if after := lookAtCanary(t); after != before {
			t.Fatalf("%s: the guest was %v before, and is %v", a.name, before, after)
		}
	}
	g.must(deleteReq("other", true))
	noLeftovers(t)
}

// bystander takes a process of the other container through its life. None of it may wait for an attacker.
func (g *guest) bystander(t *testing.T) {
	t.Helper()
	const patience = time.Minute
	begin := time.Now()
	x := g.outputs()
	if exit, out := g.run(g.exec("by", "other", x, "echo", "fine"), x); exit.Code != 0 || out != "fine\n" {
		t.Errorf("an exec in another container = %v, %q; want fine", exit, out)
	}
	c := g.exec("by", "other", nil, "sleep", "1000")
	c.Start = true
	g.must(createReq(c))
	g.must(killReq("by", uint32(unix.SIGKILL), false))
	if d := g.must(waitReq("by")).GetDrained(); d.Exited.Signal != uint32(unix.SIGKILL) {
		t.Errorf("kill and wait in another container = %v; want killed", d.Exited)
	}
	g.must(deleteReq("by", false))
	if d := time.Since(begin); d > patience {
		t.Errorf("another container's process took %v", d)
	}
}

// attacker starts a container and waits until its first process says up.
func (g *guest) attacker(t *testing.T, spec *specs.Spec) *streams {
	t.Helper()
	s := g.outputs()
	g.must(createReq(g.container("evil", spec, s)))
	t.Cleanup(func() { _, _ = g.do(deleteReq("evil", true)) })
	g.must(startReq("evil"))
	waitFor(t, "the attacker", func() bool { out, _ := s.output(pb.Stream_STREAM_STDOUT); return strings.HasPrefix(out, "up\n") })
	return s
}

// attackTrace: ptrace(2) and /proc/PID/mem of a child that is being prepared, which holds the agent's binary and memory. Tried by root with the usual capabilities, and with all of them
// in a user namespace.
func attackTrace(t *testing.T, g *guest) {
	copyFile(t, "/proc/self/exe", filepath.Join(g.rootfs, "bin/attack"), 0o755)
	for name, set := range map[string]func(*specs.Spec){"root": func(*specs.Spec) {}, "user namespace": mapIDs} {
		spec := g.spec("/bin/attack")
		spec.Process.Env = append(spec.Process.Env, attackEnv+"=trace")
		set(spec)
		if len(spec.Linux.UIDMappings) > 0 {
			all := []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL"}
			spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		}
		s := g.attacker(t, spec)
		for i := range 10 {
			c := g.exec(fmt.Sprint("x", i), "evil", nil, "true")
			c.Start = true
			started := g.begin(createReq(c)) // once it runs it is the container's own, which may stop it for ever
			defer started.cancel()
			g.bystander(t)
		}
		out, _ := s.output(pb.Stream_STREAM_STDOUT)
		if strings.Contains(out, "TRACED") || strings.Contains(out, "MEMORY") || !strings.Contains(out, "seen") {
			t.Errorf("%s: the attacker says %.200q; want that it has seen a child, and nothing else", name, out)
		}
		g.must(deleteReq("evil", true))
	}
}

// attackOwnBinary: CVE-2019-5736. A program that is a link to /proc/self/exe, or a script for it, makes the agent's binary run in the container, which then writes to it.
func attackOwnBinary(t *testing.T, g *guest) {
	write(t, filepath.Join(g.rootfs, "bin/script"), "#!/proc/self/exe\n", 0o755)
	if err := os.Symlink("/proc/self/exe", filepath.Join(g.rootfs, "bin/link")); err != nil {
		t.Fatal(err)
	}
	spec := g.spec("sh", "-c", `echo up; while :; do for p in /proc/[0-9]*; do case $(busybox readlink $p/exe) in /bin/*) ;; *) (busybox dd if=/bin/busybox of=$p/exe bs=1 count=1) 2>/dev/null && echo WRITTEN $p;; esac; done; done`)
	s := g.attacker(t, spec)
	for _, program := range []string{"/bin/script", "/bin/link", "/proc/self/exe"} {
		for range 3 {
			c := g.exec("x", "evil", nil, program)
			c.Start = true
			if _, err := g.do(createReq(c)); err == nil {
				g.bystander(t)
				g.must(deleteReq("x", true))
			}
		}
	}
	if out, _ := s.output(pb.Stream_STREAM_STDOUT); strings.Contains(out, "WRITTEN") {
		t.Errorf("the attacker says %q", out)
	}
	g.must(deleteReq("evil", true))
}

// attackAccounts: an exec by user name while /etc/passwd is endless, no file, or leads out of the container.
func attackAccounts(t *testing.T, g *guest) {
	const secret = "nobody-but-the-guest:x:4242:4242::/:/bin/sh\n"
	write(t, "/run/guest-passwd", secret, 0o644)
	defer os.Remove("/run/guest-passwd")
	passwd := filepath.Join(g.rootfs, "etc/passwd")
	kept, err := os.ReadFile(passwd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(passwd); write(t, passwd, string(kept), 0o644) }()
	g.attacker(t, g.spec("sh", "-c", "echo up; sleep 1000"))
	for name, replace := range map[string]func() error{
		"huge":        func() error { return os.WriteFile(passwd, bytes.Repeat([]byte("root:x:0:0::/:\n"), 1<<20), 0o644) },
		"sparse":      func() error { return errorsOf(os.WriteFile(passwd, nil, 0o644), os.Truncate(passwd, 1<<40)) },
		"fifo":        func() error { return syscall.Mkfifo(passwd, 0o644) },
		"link out":    func() error { return os.Symlink("/../../../../../../run/guest-passwd", passwd) },
		"link to 1":   func() error { return os.Symlink("/proc/1/root/run/guest-passwd", passwd) },
		"endless":     func() error { return os.Symlink("/dev/zero", passwd) },
		"a directory": func() error { return os.Mkdir(passwd, 0o755) },
	} {
		if err := errorsOf(os.RemoveAll(passwd), replace()); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"nobody-but-the-guest", "web"} {
			c := g.exec("x", "evil", nil, "true")
			c.GetExec().Process.User = &pb.User{Username: user}
			if _, err := g.do(createReq(c)); err == nil {
				t.Errorf("%s: an exec as %s is made; want an error", name, user)
			}
		}
		x := g.outputs() // by number, only HOME is looked for
		if exit, out := g.run(g.exec("x", "evil", x, "echo", "fine"), x); exit.Code != 0 || out != "fine\n" {
			t.Errorf("%s: an exec by number = %v, %q; want fine", name, exit, out)
		}
		_ = os.RemoveAll(passwd)
	}
	g.must(deleteReq("evil", true))
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// attackFakeProc: CVE-2019-16884, CVE-2025-52881. The container puts a file system of its own over its /proc, in which the files that labels are written to are plain ones. A label must not
// be lost so: the profile that does not exist is refused all the same. What is written elsewhere shows in the files.
func attackFakeProc(t *testing.T, g *guest) {
	spec := g.spec("sh", "-c", `busybox mount -t tmpfs x /proc && for p in self thread-self 1; do busybox mkdir -p /proc/$p/attr/apparmor /proc/$p/fd; for f in exec current keycreate; do : >/proc/$p/attr/$f; : >/proc/$p/attr/apparmor/$f; done; : >/proc/$p/oom_score_adj; done; echo up; sleep 1000`)
	admin := []string{"CAP_SYS_ADMIN"}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: admin, Effective: admin, Permitted: admin}
	g.attacker(t, spec)
	c := g.exec("x", "evil", nil, "true")
	c.GetExec().Process.ApparmorProfile = "no-such-profile"
	c.Start = true
	if _, err := g.do(createReq(c)); err == nil {
		t.Error("an exec with a profile that does not exist is made; want an error")
		g.must(deleteReq("x", true))
	}
	x := g.outputs()
	c = g.exec("x", "evil", x, "busybox", "find", "/proc", "-type", "f", "-size", "+0")
	c.GetExec().Process.ApparmorProfile, c.GetExec().Process.OomScoreAdj = "unconfined", ptr(int32(77))
	if exit, out := g.run(c, x); exit.Code != 0 || out != "" {
		t.Errorf("files of the fake /proc that were written to = %q, %v; want none", out, exit)
	}
	g.must(deleteReq("evil", true))
}

// refused makes a container, which must fail and leave nothing.
func (g *guest) refused(t *testing.T, spec *specs.Spec) {
	t.Helper()
	c := g.container("evil", spec, nil)
	c.Start = true
	if _, err := g.do(createReq(c)); err == nil {
		t.Error("the container is made; want an error")
		g.must(deleteReq("evil", true))
	}
}

// attackProcIsALink: CVE-2023-27561, CVE-2023-28642. The image's /proc is a link, so that what is mounted and written there would be elsewhere.
func attackProcIsALink(t *testing.T, g *guest) {
	proc := filepath.Join(g.rootfs, "proc")
	if err := errorsOf(os.Remove(proc), os.Symlink("/tmp", proc)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errorsOf(os.Remove(proc), os.Mkdir(proc, 0o755)) }()
	g.refused(t, g.spec("true"))
}

// attackProcIsAVolume: CVE-2019-16884, CVE-2025-52881. A mount over a part of /proc would take labels and sysctls.
func attackProcIsAVolume(t *testing.T, g *guest) {
	for _, m := range []specs.Mount{
		{Destination: "/proc", Type: "tmpfs", Source: "x"},
		{Destination: "/proc/self/attr", Type: "tmpfs", Source: "x"},
		{Destination: "/proc/sys/kernel", Type: "bind", Source: "/tmp", Options: []string{"bind"}},
	} {
		spec := g.spec("true")
		spec.Mounts = append(spec.Mounts, m)
		g.refused(t, spec)
	}
}
