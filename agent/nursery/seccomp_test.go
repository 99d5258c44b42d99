//go:build linux && cgo && seccomp

package nursery

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seccomp"
)

func TestSeccomp(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		denied, err := seccomp.Compile(&specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.EDOM))}},
		})
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
