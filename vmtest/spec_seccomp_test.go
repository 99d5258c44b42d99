package vmtest_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// filter makes a filter of rules that lets all other system calls through, or none where the rules allow.
func filter(rules ...specs.LinuxSyscall) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules}
	}
}

func seccompCases() []specCase {
	return []specCase{
		{
			"Seccomp", filter(specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: new(uint(13))}),
			`mkdir /tmp/no 2>&1; grep Seccomp: /proc/self/status`, "mkdir: can't create directory '/tmp/no': Permission denied\nSeccomp:\t2",
		},
		{
			"SeccompDefaultErrno", filter(specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}),
			`mkdir /tmp/no 2>&1; true`, "mkdir: can't create directory '/tmp/no': Operation not permitted",
		},
		{"SeccompKill", filter(
			specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActKillProcess},
			specs.LinuxSyscall{Names: []string{"rmdir"}, Action: specs.ActTrap},
			specs.LinuxSyscall{Names: []string{"sync"}, Action: specs.ActKillThread},
			specs.LinuxSyscall{Names: []string{"syncfs"}, Action: specs.ActKill},
		), `for p in 'mkdir /tmp/no' 'rmdir /tmp/no' sync 'sync -f /tmp'; do $p 2>/dev/null; echo $?; done`, "159\n159\n159\n159"},
		{"SeccompTrace", filter(
			specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActTrace, ErrnoRet: new(uint(5))},
			specs.LinuxSyscall{Names: []string{"rmdir"}, Action: specs.ActLog},
		), `mkdir /tmp/no 2>&1; rmdir /tmp/no 2>&1; true`, "mkdir: can't create directory '/tmp/no': Function not implemented\nrmdir: '/tmp/no': No such file or directory"},
		{
			"SeccompArguments", filter(
				specs.LinuxSyscall{Names: []string{"kill"}, Action: specs.ActErrno, ErrnoRet: new(uint(1)), Args: []specs.LinuxSeccompArg{
					{Index: 1, Value: 10, Op: specs.OpGreaterEqual}, {Index: 0, Value: 1, Op: specs.OpNotEqual},
				}},
				specs.LinuxSyscall{Names: []string{"setpriority"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 2, Value: 3, ValueTwo: 1, Op: specs.OpMaskedEqual}}},
			), `sleep 9 & kill -9 $! && echo killed; kill -10 $! 2>&1 | grep -o 'not permitted'; renice -n 1 $$ 2>&1 | grep -o 'not permitted'; renice -n 2 $$ && echo reniced`,
			"killed\nnot permitted\nnot permitted\nreniced",
		},
		{"SeccompFlags", func(s *specs.Spec) {
			filter(specs.LinuxSyscall{Names: []string{"mkdir"}, Action: specs.ActErrno})(s)
			s.Linux.Seccomp.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86}
			s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}
		}, `grep ^Seccomp /proc/self/status`, "Seccomp:\t2\nSeccomp_filters:\t1"},
		{"SeccompDefaultAction", func(s *specs.Spec) {
			s.Linux.Seccomp.DefaultErrnoRet = new(uint(42))
		}, `unshare -m true 2>&1 | grep -c 'No message'`, "1"},
	}
}

// testSeccompExec gives a container's filter to execs in it too.
func testSeccompExec(t *testing.T, g *guest) {
	spec := containerSpec("sleep 1000")
	p := g.start(t, hostclient.ProcessConfig{Spec: spec})
	out, err := g.Client.Container(p.ID()).Command(deadline(t), "/bin/sh", "-c", `grep Seccomp: /proc/self/status; unshare -m true 2>&1`).CombinedOutput()
	if got := string(out); err == nil || !strings.HasPrefix(got, "Seccomp:\t2\n") || !strings.Contains(got, "Operation not permitted") {
		t.Errorf("an exec says %q, %v; want a filter, and unshare to fail", got, err)
	}
}
