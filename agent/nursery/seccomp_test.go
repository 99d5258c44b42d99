//go:build linux && cgo && seccomp

package nursery

import (
	"bytes"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func deny(names ...string) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.EDOM))}},
	}
}

func TestSeccompSpecs(t *testing.T) {
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
		b, err := Seccomp(c.spec)
		if c.err == "" {
			if _, derr := decodeFilter(b); err != nil || derr != nil || len(b) == 0 {
				t.Errorf("%s: Seccomp() = %d bytes, %v, decoded: %v; want a filter", c.name, len(b), err, derr)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: Seccomp() = %v; want an error about %q", c.name, err, c.err)
		}
	}
	if b, err := Seccomp(nil); b != nil || err != nil {
		t.Errorf("Seccomp(nil) = %x, %v; want nothing", b, err)
	}
}

func TestSeccompIsStable(t *testing.T) {
	first, err := Seccomp(deny("mkdir"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Seccomp(deny("mkdir")); err != nil || !bytes.Equal(first, again) {
		t.Errorf("Seccomp() twice differs, or %v", err)
	}
}

func TestSeccompInProcess(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		denied, err := Seccomp(deny("mkdir", "mkdirat"))
		if err != nil {
			t.Fatal(err)
		}
		for _, nnp := range []bool{false, true} {
			r := in("sh", "-c", "grep Seccomp: /proc/self/status; mkdir /tmp/x")
			r.Seccomp, r.NoNewPrivs = denied, nnp
			r.UID = 1000
			r.Capabilities = &Capabilities{}
			out, s := run(t, n, r)
			if want := "Seccomp:\t2\nmkdir: can't create directory '/tmp/x': Numerical argument out of domain\n"; out != want || s.Code != 1 {
				t.Errorf("no_new_privs %v: output = %q, %v; want %q", nnp, out, s, want)
			}
		}
	})
}

// A filter that allows what it names only: newer system calls are unknown, older ones that it does not name denied.
func TestSeccompUnknownCalls(t *testing.T) {
	spec := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"openat2", "read", "write", "close"}, Action: specs.ActAllow}},
	}
	b, err := Seccomp(spec)
	if err != nil {
		t.Fatal(err)
	}
	f, err := decodeFilter(b)
	if err != nil {
		t.Fatal(err)
	}
	const allow, eperm, enosys = 0x7fff0000, 0x00050000 | uint32(unix.EPERM), 0x00050000 | uint32(unix.ENOSYS)
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
		if got := interpret(t, f.program, c.arch, c.number); got != c.want {
			t.Errorf("%s: filter returns %#x; want %#x", c.name, got, c.want)
		}
	}
}

// interpret runs the instructions of classic BPF that filters of system call numbers are made of.
func interpret(t *testing.T, program []byte, arch, number uint32) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; 8*pc < len(program); pc++ {
		in := program[8*pc:]
		code, jt, jf := uint16(in[0])|uint16(in[1])<<8, int(in[2]), int(in[3])
		k := uint32(in[4]) | uint32(in[5])<<8 | uint32(in[6])<<16 | uint32(in[7])<<24
		jump := func(yes bool) {
			if yes {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = map[uint32]uint32{offNumber: number, offArch: arch}[k]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == k)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(a > k)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= k)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&k != 0)
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(k)
		case unix.BPF_RET | unix.BPF_K:
			return k
		default:
			t.Fatalf("instruction %d has the unexpected code %#x", pc, code)
		}
	}
	t.Fatal("the program does not return")
	return 0
}
