//go:build linux && cgo && seccomp

package seccomp

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func deny(names ...string) *specs.LinuxSeccomp {
	edom := uint(unix.EDOM)
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno, ErrnoRet: &edom}},
	}
}

func TestCompile(t *testing.T) {
	for _, c := range []struct {
		name string
		spec *specs.LinuxSeccomp
		err  string // part of the error; empty: there is a filter
	}{
		{"allow all", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, ""},
		{"deny some", deny("mkdir", "mkdirat"), ""},
		{"unknown call that would pass", deny("mkdir", "no_such_call"), "no_such_call"},
		{"unknown call that fails anyway", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"no_such_call"}, Action: specs.ActAllow}}}, ""},
		{"flags", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"}}, ""},
		{"unknown flag", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"X"}}, "X"},
		{"unknown action", &specs.LinuxSeccomp{DefaultAction: "X"}, "X"},
		{"notify by default", &specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "notify"},
		{"notify", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActNotify}}}, "mkdir"},
		{"unknown architecture", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_PDP11"}}, "PDP11"},
		{"bad operator", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "X"}}}}}, "X"},
		{"bad index", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 7, Op: specs.OpEqualTo}}}}}, "valid"},
	} {
		f, err := Compile(c.spec)
		if c.err == "" {
			if err != nil || f.IsZero() || len(f.Program)%unix.SizeofSockFilter != 0 {
				t.Errorf("%s: Compile() = %d bytes, %v; want a filter", c.name, len(f.Program), err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: Compile() = %v; want an error about %q", c.name, err, c.err)
		}
	}
	if f, err := Compile(nil); !f.IsZero() || err != nil {
		t.Errorf("Compile(nil) = %x, %v; want nothing", f.Program, err)
	}
}

func TestCompileIsStable(t *testing.T) {
	first, err := Compile(deny("mkdir"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Compile(deny("mkdir")); err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("Compile() twice differs, or %v", err)
	}
}

// A filter that allows what it names only: newer system calls are unknown, older ones that it does not name denied.
func TestUnknownCalls(t *testing.T) {
	spec := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"openat2", "read", "write", "close"}, Action: specs.ActAllow}},
	}
	f, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	const (
		allow  = unix.SECCOMP_RET_ALLOW
		eperm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	for _, c := range []struct {
		name   string
		arch   uint32
		number uint32
		want   uint32
	}{
		{"openat2", unix.AUDIT_ARCH_X86_64, unix.SYS_OPENAT2, allow},
		{"read", unix.AUDIT_ARCH_X86_64, unix.SYS_READ, allow},
		{"mount", unix.AUDIT_ARCH_X86_64, unix.SYS_MOUNT, eperm},
		{"faccessat2", unix.AUDIT_ARCH_X86_64, unix.SYS_FACCESSAT2, enosys},
		{"far beyond", unix.AUDIT_ARCH_X86_64, 5000, enosys},
		{"x32 read", unix.AUDIT_ARCH_X86_64, x32Bit, allow}, // read is 0
		{"x32 far beyond", unix.AUDIT_ARCH_X86_64, x32Bit | 5000, enosys},
		{"i386 read", unix.AUDIT_ARCH_I386, 3, allow},
		{"i386 mount", unix.AUDIT_ARCH_I386, 21, eperm},
		{"i386 far beyond", unix.AUDIT_ARCH_I386, 5000, enosys},
	} {
		if got := f.answers(c.arch, c.number); !slices.Equal(got, []uint32{c.want}) {
			t.Errorf("%s: filter returns %#x; want %#x alone", c.name, got, c.want)
		}
	}
}

// TestAnswers asks a filter that looks at arguments: both halves of one, under masks, and one of several.
func TestAnswers(t *testing.T) {
	const (
		allow = unix.SECCOMP_RET_ALLOW
		kill  = unix.SECCOMP_RET_KILL_PROCESS
	)
	rule := func(call string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{call}, Action: specs.ActKillProcess, Args: args}
	}
	f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		rule("mkdir"),
		rule("futex", specs.LinuxSeccompArg{Index: 1, Value: 128, Op: specs.OpEqualTo}),
		rule("write", specs.LinuxSeccompArg{Index: 0, Value: 3, Op: specs.OpGreaterEqual}, specs.LinuxSeccompArg{Index: 2, Value: 1 << 40, Op: specs.OpGreaterThan}),
		rule("clone", specs.LinuxSeccompArg{Index: 0, Value: 0x7e020000, ValueTwo: 0, Op: specs.OpMaskedEqual}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		call uint32
		args []uint64
		want []uint32
	}{
		{unix.SYS_READ, nil, []uint32{allow}},
		{unix.SYS_MKDIR, nil, []uint32{kill}},
		{unix.SYS_FUTEX, nil, []uint32{allow, kill}},
		{unix.SYS_FUTEX, []uint64{7}, []uint32{allow, kill}},
		{unix.SYS_FUTEX, []uint64{7, 128}, []uint32{kill}},
		{unix.SYS_FUTEX, []uint64{7, 129}, []uint32{allow}},
		{unix.SYS_FUTEX, []uint64{7, 128 | 1<<32}, []uint32{allow}},
		{unix.SYS_WRITE, []uint64{2}, []uint32{allow}},
		{unix.SYS_WRITE, []uint64{3}, []uint32{allow, kill}},
		{unix.SYS_WRITE, []uint64{3, 0, 1 << 40}, []uint32{allow}},
		{unix.SYS_WRITE, []uint64{3, 0, 1<<40 + 1}, []uint32{kill}},
		{unix.SYS_CLONE, nil, []uint32{allow, kill}},
		{unix.SYS_CLONE, []uint64{0x3d0f00}, []uint32{kill}},
		{unix.SYS_CLONE, []uint64{0x20000}, []uint32{allow}},
	} {
		if got := f.Answers(c.call, c.args...); !slices.Equal(got, c.want) {
			t.Errorf("Answers(%d, %#x) = %#x; want %#x", c.call, c.args, got, c.want)
		}
	}
	foreign := Filter{Program: encodeProgram([]unix.SockFilter{{Code: unix.BPF_LDX | unix.BPF_MEM}, {Code: unix.BPF_RET | unix.BPF_K, K: allow}})}
	endless := Filter{Program: encodeProgram([]unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}})}
	for name, f := range map[string]Filter{"no filter": {}, "one with other instructions": foreign, "one without an end": endless} {
		if got := f.Answers(unix.SYS_READ); got != nil {
			t.Errorf("Answers() of %s = %#x; want none", name, got)
		}
	}
}
