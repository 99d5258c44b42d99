//go:build linux

package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/rlimit"
	"github.com/bellhop-vm/bellhop/agent/seqpacket"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fieldCase is a process as both ways shall make it. Exec is what the exec says, container what it leaves to the container's spec.
type fieldCase struct {
	name      string
	exec      func(*specs.Process)
	container func(*specs.Spec)
	shows     string // a line of what the process sees, without which the case would prove nothing
}

func fieldCases() []fieldCase {
	return []fieldCase{
		{name: "plain"},
		{name: "user and groups", shows: "Groups:\t50 77\n", exec: func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{50, 77}}
		}},
		{name: "umask of the container", shows: "Umask:\t0027", container: func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o27)) }},
		{name: "cwd", shows: "cwd /tmp", exec: func(p *specs.Process) { p.Cwd = "/tmp" }},
		{name: "env", shows: "TWICE=2", exec: func(p *specs.Process) { p.Env = append(p.Env, "TWICE=1", "TWICE=2", "EMPTY=", "HOME=/x") }},
		{name: "home of the user", shows: "HOME=/home/web", exec: func(p *specs.Process) { p.User = specs.User{UID: 1000, GID: 1001} }},
		{name: "capabilities", shows: "CapAmb:\t0000000000000400", exec: func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1001}
			bind := []string{"CAP_NET_BIND_SERVICE"}
			p.Capabilities = &specs.LinuxCapabilities{Bounding: append(bind, "CAP_KILL"), Effective: bind, Permitted: append(bind, "CAP_KILL"), Inheritable: bind, Ambient: bind}
		}},
		{name: "no capabilities", shows: "CapBnd:\t0000000000000000", exec: func(p *specs.Process) { p.Capabilities = &specs.LinuxCapabilities{} }},
		{name: "rlimits", shows: "Max core file size        7                    8", exec: func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 20, Hard: 30}, {Type: "RLIMIT_CORE", Soft: 7, Hard: 8}, {Type: "RLIMIT_MSGQUEUE", Soft: 1, Hard: 2}}
		}},
		{name: "no new privileges", shows: "NoNewPrivs:\t1", exec: func(p *specs.Process) { p.NoNewPrivileges = true }},
		{name: "seccomp", shows: "Seccomp_filters:\t1", container: denyMkdir},
		{name: "seccomp and no new privileges", shows: "Seccomp_filters:\t1", container: denyMkdir, exec: func(p *specs.Process) {
			p.NoNewPrivileges = true
			p.User = specs.User{UID: 1000, GID: 1001}
		}},
		{name: "oom score of the container", shows: "oom 321", container: func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(321) }},
		{name: "scheduler", shows: "nice 7 ", exec: func(p *specs.Process) { p.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7} }},
		{name: "scheduler of the container", shows: "nice 6 ", container: func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 6}
		}},
		{name: "io priority", shows: "io idle", exec: func(p *specs.Process) { p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE} }},
		{name: "io priority of the container", shows: "io best-effort: prio 2", container: func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 2}
		}},
		{name: "cpu affinity", shows: "Cpus_allowed_list:\t1", exec: func(p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"} }},
		{name: "cpu affinity of the container", shows: "Cpus_allowed_list:\t1", container: func(s *specs.Spec) {
			s.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "1"}
		}},
		{name: "personality", shows: "personality 00000008", container: func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} }},
		{name: "memory policy", shows: "memory bind", container: func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
		}},
		{name: "apparmor", exec: func(p *specs.Process) { p.ApparmorProfile = "unconfined" }},
		{name: "user namespace", shows: "100000", container: mapIDs, exec: func(p *specs.Process) { p.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}} }},
		{name: "user namespace, capabilities, no new privileges, seccomp", shows: "NoNewPrivs:\t1", container: func(s *specs.Spec) { mapIDs(s); denyMkdir(s) }, exec: func(p *specs.Process) { p.NoNewPrivileges = true }},
		{name: "time namespace", shows: "uptime above 99999", container: func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 100000}}
		}},
		{name: "shared namespaces", container: func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}
			s.Mounts = s.Mounts[:3]
		}},
		{name: "terminal", shows: "tty 136:0 33 99", exec: func(p *specs.Process) {
			p.Terminal = true
			p.ConsoleSize = &specs.Box{Height: 33, Width: 99}
			p.User = specs.User{UID: 1000, GID: 1001}
		}},
	}
}

func ptr[T any](v T) *T { return &v }

// denyMkdir has a filter that libcontainer knows of: one under which the Go runtime could not go on (initfilter.Suits) is left to it.
func denyMkdir(s *specs.Spec) { deny(s, "mkdir", "sched_yield") }

func deny(s *specs.Spec, calls ...string) {
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: calls, Action: specs.ActErrno, ErrnoRet: ptr(uint(13))}}}
}

func mapIDs(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
}

// seen prints what a process sees of itself. The shell's own builtins and redirections look at the process itself, other programs at a child that has inherited all of it.
const seen = `
grep() { busybox grep "$@"; }
while read -r line; do case $line in Umask:*|[UG]id:*|Groups:*|Sig[BCI]*|ShdPnd:*|Cap*|NoNew*|Seccomp*|Cpus_*|Mems_*|TracerPid:*|Threads:*|THP_*|CoreDumping:*) echo "$line";; esac; done </proc/self/status
while read -r line; do echo "$line"; done </proc/self/limits
read pid comm state ppid pgrp session tty tpgid flags r1 r2 r3 r4 r5 r6 r7 r8 priority nice threads itreal rest </proc/self/stat
echo "stat $comm ppid $ppid group $((pgrp == pid)) session $((session == pid)) tty $tty priority $priority nice $nice $threads"
set -- $rest; shift 18; echo "rt and policy $*" | busybox cut -d' ' -f1-6
for f in oom_score_adj personality timerslack_ns coredump_filter loginuid sessionid cgroup uid_map gid_map setgroups attr/current attr/exec attr/apparmor/current attr/keycreate; do
  [ -e /proc/self/$f ] || { echo "$f absent"; continue; }
  echo "$f:"; while read -r line; do echo "$line"; done </proc/self/$f
done 2>&1
read oom </proc/self/oom_score_adj; echo "oom $oom"; read dom </proc/self/personality; echo "personality $dom"
busybox ls -l /proc/$$/ns | busybox sed 's/.* -> //'
set -- /proc/$$/fd/*; for f; do echo "fd ${f##*/} $(busybox readlink $f)"; done
echo "cwd $PWD $(busybox stat -c '%a %u:%g' .)"; echo "root $(busybox stat -c '%d:%i' /)"
busybox env | busybox sort | grep -v '^_='
echo "io $(busybox ionice)"
busybox head -n1 /proc/$$/numa_maps 2>/dev/null | { read a policy rest; echo "memory $policy"; }
grep -c keyring /proc/keys; grep ' _ses' /proc/keys | busybox sed 's/^[0-9a-f]* [^ ]* *[0-9]* *[^ ]* //' | busybox sort
[ $(busybox cut -d. -f1 /proc/uptime) -gt 99999 ] && echo "uptime above 99999"
if [ -t 0 ]; then echo "tty $(busybox stat -L -c '%t:%T' /proc/self/fd/0 | busybox sed 's/^88/136/') $(busybox stty size)"; busybox stty -a; busybox stat -L -c '%u:%g %a' /proc/self/fd/0; echo "$(busybox tty)"; fi
echo end
`

// What two processes of one kind may differ in: numbers of pipes, and of keys.
var serial = regexp.MustCompile(`(pipe|socket):\[\d+\]`)

// TestGuestFields has each field of a process made by the nursery and by libcontainer's own exec in the same container. The processes see the same.
func TestGuestFields(t *testing.T) {
	g := newGuest(t)
	g.open()
	g.hold("plain", func(*specs.Spec) {})
	for i, c := range fieldCases() {
		t.Run(c.name, func(t *testing.T) {
			id := "plain"
			if c.container != nil {
				id = fmt.Sprint("c", i)
				g.hold(id, c.container)
				defer func() { g.must(deleteReq(id, true)) }()
			}
			p := &specs.Process{Args: []string{"/bin/busybox", "sh", "-c", seen}, Cwd: "/", Env: []string{"PATH=/bin"}}
			if c.exec != nil {
				c.exec(p)
			}
			ours := g.seenByNursery(t, id, p)
			theirs := g.seenByLibcontainer(t, id, p)
			compareSeen(t, ours, theirs, c.shows, "of the nursery")
		})
	}
	g.must(deleteReq("plain", true))
	noLeftovers(t)
}

// open lets the users of a user namespace into the root.
func (g *guest) open() {
	g.t.Helper()
	for dir := g.rootfs; dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755)
	}
	if err := os.Chmod(filepath.Join(g.rootfs, "tmp"), 0o777); err != nil {
		g.t.Fatal(err)
	}
}

// hold starts a container that only waits.
func (g *guest) hold(id string, change func(*specs.Spec)) {
	g.t.Helper()
	spec := g.spec("sleep", "1000")
	change(spec)
	g.must(createReq(g.container(id, spec, nil)))
	g.must(startReq(id))
}

// compareSeen compares what our process sees, and one of libcontainer's. The name says which is ours.
func compareSeen(t *testing.T, ours, theirs, shows, name string) {
	t.Helper()
	if !strings.Contains(ours, shows) {
		t.Errorf("the process %s does not see %q; it sees:\n%s", name, shows, ours)
	}
	a, b := strings.Split(ours, "\n"), strings.Split(theirs, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("line %d: the process %s sees %q, that of libcontainer %q", i+1, name, a[i], b[i])
		}
	}
	if len(a) != len(b) || !strings.HasSuffix(ours, "end\n") {
		t.Errorf("the process %s sees:\n%s\nthat of libcontainer:\n%s", name, ours, theirs)
	}
}

func (g *guest) seenByNursery(t *testing.T, id string, p *specs.Process) string {
	s := g.outputs()
	if p.Terminal {
		s = g.listen(g.port.Add(1), nil, pb.Stream_STREAM_STDOUT)
	}
	c := g.exec("x", id, s)
	c.GetExec().Process = wireProcess(p)
	if b := p.ConsoleSize; b != nil {
		c.Size = &pb.Size{Columns: uint32(b.Width), Rows: uint32(b.Height)}
	}
	exit, out := g.run(c, s)
	if !p.Terminal {
		errs, _ := s.output(pb.Stream_STREAM_STDERR)
		out = errs + out
	}
	if exit.Code != 0 {
		t.Errorf("exec by the nursery = %v; output %s", exit, out)
	}
	return plainSeen(out)
}

func plainSeen(out string) string {
	return serial.ReplaceAllString(strings.ReplaceAll(out, "\r\n", "\n"), "$1")
}

// wireProcess says on the wire what p says. An exec asks for the container's filter.
func wireProcess(p *specs.Process) *pb.Process {
	out := &pb.Process{
		Args: p.Args, Cwd: p.Cwd, Env: p.Env, Terminal: p.Terminal, NoNewPrivileges: p.NoNewPrivileges, ApparmorProfile: p.ApparmorProfile, InheritSeccomp: true,
		User: &pb.User{Uid: p.User.UID, Gid: p.User.GID, AdditionalGids: p.User.AdditionalGids, Umask: p.User.Umask},
	}
	if c := p.Capabilities; c != nil {
		out.Capabilities = &pb.Capabilities{Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient}
	}
	for _, l := range p.Rlimits {
		out.Rlimits = append(out.Rlimits, &pb.Rlimit{Type: l.Type, Soft: l.Soft, Hard: l.Hard})
	}
	if s := p.Scheduler; s != nil {
		out.Scheduler = &pb.Scheduler{Policy: string(s.Policy), Nice: s.Nice}
	}
	if i := p.IOPriority; i != nil {
		out.IoPriority = &pb.IOPriority{Class: string(i.Class), Priority: int32(i.Priority)}
	}
	if a := p.ExecCPUAffinity; a != nil {
		out.CpuAffinity = &pb.CPUAffinity{Initial: a.Initial, Final: a.Final}
	}
	return out
}

// seenByLibcontainer runs the process by libcontainer's exec, which executes this binary again (see TestMain).
func (g *guest) seenByLibcontainer(t *testing.T, id string, p *specs.Process) string {
	t.Helper()
	lc, err := libcontainer.Load(g.state, id)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lp := libcontainerProcess(t, p)
	lp.ExtraFiles = []*os.File{w} // where container.Init would report
	if p.Terminal {
		out := runOnConsole(t, lc, lp)
		w.Close()
		return plainSeen(out)
	}
	lp.Stdout, lp.Stderr = w, w
	err = lc.Run(lp)
	w.Close()
	if err != nil {
		t.Fatalf("libcontainer's exec: %v", err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lp.Wait(); err != nil {
		t.Errorf("libcontainer's exec: %v; output %s", err, out)
	}
	return plainSeen(string(out))
}

func runOnConsole(t *testing.T, lc *libcontainer.Container, lp *libcontainer.Process) string {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	parent, child := os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")
	defer parent.Close()
	defer child.Close()
	lp.ConsoleSocket = child
	if err := lc.Run(lp); err != nil {
		t.Fatalf("libcontainer's exec: %v", err)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(fds[0], make([]byte, 64), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	got, err := seqpacket.Rights(oob[:n])
	if err != nil || len(got) != 1 {
		t.Fatalf("libcontainer sent %v, %v; want a terminal", got, err)
	}
	master := os.NewFile(uintptr(got[0]), "terminal")
	defer master.Close()
	out, _ := io.ReadAll(master) // ends with EIO
	if _, err := lp.Wait(); err != nil {
		t.Errorf("libcontainer's exec: %v; output %s", err, out)
	}
	return string(out)
}

func libcontainerProcess(t *testing.T, p *specs.Process) *libcontainer.Process {
	t.Helper()
	lp := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, UID: int(p.User.UID), GID: int(p.User.GID), NoNewPrivileges: &p.NoNewPrivileges, AppArmorProfile: p.ApparmorProfile,
		Scheduler: p.Scheduler, IOPriority: p.IOPriority, LogLevel: "2",
	}
	for _, gid := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(gid))
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient}
	}
	for _, d := range rlimit.Defaults() { // libcontainer's would be this test's
		lp.Rlimits = append(lp.Rlimits, configs.Rlimit{Type: d.Resource, Soft: d.Soft, Hard: d.Hard})
	}
	for _, l := range p.Rlimits {
		n, ok := rlimit.Number(l.Type)
		if !ok {
			t.Fatalf("no limit %s", l.Type)
		}
		lp.Rlimits = append(lp.Rlimits, configs.Rlimit{Type: n, Soft: l.Soft, Hard: l.Hard})
	}
	if a := p.ExecCPUAffinity; a != nil {
		var err error
		if lp.CPUAffinity, err = configs.ConvertCPUAffinity(a); err != nil {
			t.Fatal(err)
		}
	}
	if b := p.ConsoleSize; b != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(b.Width), uint16(b.Height)
	}
	return lp
}
