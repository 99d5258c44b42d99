//go:build linux && cgo && seccomp

package seccomp

import (
	"reflect"
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
	vm, err := f.machine()
	if err != nil {
		t.Fatal(err)
	}
	const eperm = 0x00050000 | uint32(unix.EPERM)
	for _, c := range []struct {
		name   string
		arch   uint32
		number uint32
		want   uint32
	}{
		{"openat2", unix.AUDIT_ARCH_X86_64, unix.SYS_OPENAT2, retAllow},
		{"read", unix.AUDIT_ARCH_X86_64, unix.SYS_READ, retAllow},
		{"mount", unix.AUDIT_ARCH_X86_64, unix.SYS_MOUNT, eperm},
		{"faccessat2", unix.AUDIT_ARCH_X86_64, unix.SYS_FACCESSAT2, returnENOSYS},
		{"far beyond", unix.AUDIT_ARCH_X86_64, 5000, returnENOSYS},
		{"x32 read", unix.AUDIT_ARCH_X86_64, x32Bit, retAllow}, // read is 0
		{"x32 far beyond", unix.AUDIT_ARCH_X86_64, x32Bit | 5000, returnENOSYS},
		{"i386 read", unix.AUDIT_ARCH_I386, 3, retAllow},
		{"i386 mount", unix.AUDIT_ARCH_I386, 21, eperm},
		{"i386 far beyond", unix.AUDIT_ARCH_I386, 5000, returnENOSYS},
	} {
		if got, err := run(vm, c.arch, c.number); err != nil || got != c.want {
			t.Errorf("%s: filter returns %#x, %v; want %#x", c.name, got, err, c.want)
		}
	}
}

func TestAllows(t *testing.T) {
	f, err := Compile(deny("mkdir"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		calls []uint32
		want  bool
	}{
		{nil, true},
		{[]uint32{unix.SYS_READ, unix.SYS_FUTEX}, true},
		{[]uint32{unix.SYS_MKDIR}, false},
		{[]uint32{unix.SYS_READ, unix.SYS_MKDIR, unix.SYS_FUTEX}, false},
	} {
		if got := f.Allows(c.calls...); got != c.want {
			t.Errorf("Allows(%v) = %v; want %v", c.calls, got, c.want)
		}
	}
	if (Filter{}).Allows(unix.SYS_READ) {
		t.Error("no filter allows something; want false, since there is no program to ask")
	}
}
