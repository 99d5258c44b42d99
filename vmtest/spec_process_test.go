package vmtest_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// capabilitySets prints the five sets, capabilities(7).
const capabilitySets = `grep ^Cap /proc/self/status | tr -s '\t' ' '`

func processCases() []specCase {
	return []specCase{
		{"Process", func(s *specs.Spec) {
			s.Process.Env, s.Process.Cwd = append(s.Process.Env, "A=b"), "/tmp/new/dir"
		}, `echo $A $PWD; ls -ld . | cut -c1-10`, "b /tmp/new/dir\ndrwxr-xr-x"},
		{"User", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 8}}
		}, `id -u; id -g; id -G`, "1000\n1001\n1001 7 8"},
		{"Username", func(s *specs.Spec) { s.Process.User.Username = "nobody" }, `id -u; id -g`, "65534\n65534"},
		{"Umask", func(s *specs.Spec) { s.Process.User.Umask = new(uint32(0o027)) }, `umask`, "0027"},
		{"Capabilities", func(s *specs.Spec) {
			// For another user than root, only the ambient ones pass the execve.
			s.Process.User.UID = 1000
			s.Process.Capabilities = &specs.LinuxCapabilities{
				Bounding: []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID"}, Permitted: []string{"CAP_CHOWN", "CAP_KILL"},
				Effective: []string{"CAP_CHOWN"}, Inheritable: []string{"CAP_SETUID", "CAP_KILL"}, Ambient: []string{"CAP_KILL"},
			}
		}, capabilitySets, "CapInh: 00000000000000a0\nCapPrm: 0000000000000020\nCapEff: 0000000000000020\nCapBnd: 00000000000000a1\nCapAmb: 0000000000000020"},
		{"CapabilitiesOfRoot", func(s *specs.Spec) {
			list := []string{"CAP_CHOWN", "CAP_KILL"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: list, Permitted: list, Effective: list}
		}, capabilitySets, "CapInh: 0000000000000000\nCapPrm: 0000000000000021\nCapEff: 0000000000000021\nCapBnd: 0000000000000021\nCapAmb: 0000000000000000"},
		{"NoCapabilities", func(s *specs.Spec) { s.Process.Capabilities = nil }, `grep -c '^Cap.*0000000000000000' /proc/self/status`, "5"},
		{"Rlimits", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 4096}}
		}, `grep -E '^Max (core|open)' /proc/self/limits | tr -s ' '`, "Max core file size 0 4096 bytes \nMax open files 100 200 files "},
		{"DefaultRlimits", unchanged, `grep 'Max locked' /proc/self/limits | tr -s ' '`, "Max locked memory 8388608 8388608 bytes "},
		{"NoNewPrivileges", unchanged, `grep NoNewPrivs /proc/self/status`, "NoNewPrivs:\t1"},
		{"NewPrivileges", func(s *specs.Spec) { s.Process.NoNewPrivileges = false }, `grep NoNewPrivs /proc/self/status`, "NoNewPrivs:\t0"},
		{"OOMScore", func(s *specs.Spec) { s.Process.OOMScoreAdj = new(123) }, `cat /proc/self/oom_score_adj`, "123"},
		{"Scheduler", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
		}, `cut -d' ' -f19,41 /proc/1/stat`, "5 3"},
		{"SchedulerPriority", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Priority: 7, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
		}, `cut -d' ' -f40,41 /proc/1/stat /proc/self/stat; true`, "7 2\n0 0"},
		{"SchedulerDeadline", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{
				Policy: specs.SchedDeadline, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}, Runtime: 1e7, Deadline: 2e7, Period: 3e7,
			}
		}, `cut -d' ' -f41 /proc/1/stat; grep -E '^dl.(runtime|deadline)' /proc/1/sched >/dev/null && echo deadline`, "6\ndeadline"},
		{"IOPriority", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		}, `ionice -p 1`, "best-effort: prio 6"},
		{"ExecAffinityOfFirstProcess", func(s *specs.Spec) {
			s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"}
		}, `grep Cpus_allowed_list /proc/self/status`, "Cpus_allowed_list:\t0-1"},
		{"ReadonlyRoot", func(s *specs.Spec) { s.Root.Readonly = true }, `touch /new 2>&1; touch /dev/shm/new && echo fine`, "touch: /new: Read-only file system\nfine"},
		{"Names", func(s *specs.Spec) {
			s.Hostname, s.Domainname = "me.test", "domain.test"
		}, `hostname; cat /proc/sys/kernel/domainname`, "me.test\ndomain.test"},
	}
}

func testConsoleSize(t *testing.T, g *guest) {
	change := func(s *specs.Spec) {
		s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 99}
	}
	if got := g.output(t, "stty size; tty", change); got != "33 99\n/dev/pts/0" && got != "33 99\n/dev/console" {
		t.Errorf("stty size; tty = %q; want 33 99 and a terminal", got)
	}
}

// testAppArmor gives a process, and an exec, a profile that denies writing to /tmp, and none that is not loaded.
func testAppArmor(t *testing.T, g *guest) {
	g.Upload(t, "testdata/apparmor/policy", "/run/policy")
	g.root(t, "cat /run/policy >/sys/kernel/security/apparmor/.load")
	const script = "cat /proc/self/attr/current; touch /tmp/denied 2>&1; touch /dev/shm/fine && echo fine"
	const want = "bellhop-test (enforce)\ntouch: /tmp/denied: Permission denied\nfine"
	spec := containerSpec(script + "; sleep 1000")
	spec.Process.ApparmorProfile = "bellhop-test"
	out := new(output)
	p := g.start(t, hostclient.ProcessConfig{Spec: spec, Stdout: out})
	out.await(t, "fine\n")
	if got := strings.TrimSpace(out.String()); got != want {
		t.Errorf("the first process says %q; want %q", got, want)
	}
	again, err := g.Client.Container(p.ID()).Command(deadline(t), "/bin/sh", "-c", script).Output()
	if got := strings.TrimSpace(string(again)); err != nil || got != want {
		t.Errorf("an exec says %q, %v; want %q", got, err, want)
	}
	spec = containerSpec("true")
	spec.Process.ApparmorProfile = "no-such-profile"
	if err := g.process(t, hostclient.ProcessConfig{Spec: spec}).Create(deadline(t)); err == nil {
		t.Error("Create() with an AppArmor profile that is not loaded = nil; want an error")
	}
}

// testExecAffinity gives the affinity of the container's spec to an exec that has none of its own.
func testExecAffinity(t *testing.T, g *guest) {
	spec := containerSpec("sleep 1000")
	spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "1"}
	p := g.start(t, hostclient.ProcessConfig{Spec: spec})
	out, err := g.Client.Container(p.ID()).Command(deadline(t), "/bin/grep", "Cpus_allowed_list", "/proc/self/status").Output()
	if got := string(out); err != nil || got != "Cpus_allowed_list:\t1\n" {
		t.Errorf("an exec says %q, %v; want the second processor", got, err)
	}
}
