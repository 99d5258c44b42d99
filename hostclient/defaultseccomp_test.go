package hostclient

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// rulesFor gives the rules that a profile has for a system call.
func rulesFor(s *specs.LinuxSeccomp, name string) (rules []specs.LinuxSyscall) {
	for _, r := range s.Syscalls {
		if slices.Contains(r.Names, name) {
			rules = append(rules, r)
		}
	}
	return rules
}

// TestSocketRules compares every family, also with bits above that the kernel does not look at, by the masks of the rules: all pass but AF_VSOCK.
func TestSocketRules(t *testing.T) {
	rules := rulesFor(DefaultSeccomp(nil), "socket")
	for family := range uint64(64) {
		for _, above := range []uint64{0, 1 << 32, 1<<63 | 1<<32} {
			passes := slices.ContainsFunc(rules, func(r specs.LinuxSyscall) bool {
				return r.Args[0].Op == specs.OpMaskedEqual && (family|above)&r.Args[0].Value == r.Args[0].ValueTwo
			})
			if want := family != 40; passes != want {
				t.Errorf("socket(%#x) passes: %v; want %v", family|above, passes, want)
			}
		}
	}
}

// TestSeccompOfCapabilities looks at what comes with a capability.
func TestSeccompOfCapabilities(t *testing.T) {
	plain := DefaultSeccomp([]string{"CAP_SYS_CHROOT", "CAP_SYS_CHROOT"})
	admin := DefaultSeccomp([]string{"CAP_SYS_ADMIN", "CAP_SYS_CHROOT"})
	for name, want := range map[string][2]bool{ // without CAP_SYS_ADMIN, and with it
		"read": {true, true}, "chroot": {true, true}, "mount": {false, true}, "unshare": {false, true}, "reboot": {false, false}, "keyctl": {false, false},
	} {
		if got := [2]bool{len(rulesFor(plain, name)) == 1, len(rulesFor(admin, name)) == 1}; got != want {
			t.Errorf("%s is let through: %v; want %v", name, got, want)
		}
	}
	if r := rulesFor(plain, "clone3"); len(r) != 1 || r[0].Action != specs.ActErrno || *r[0].ErrnoRet != enosys {
		t.Errorf("clone3 without CAP_SYS_ADMIN has the rules %+v; want ENOSYS", r)
	}
	if r := rulesFor(plain, "clone"); len(r) != 1 || len(r[0].Args) != 1 || r[0].Args[0].Value != newNamespaces {
		t.Errorf("clone without CAP_SYS_ADMIN has the rules %+v; want none that makes namespaces", r)
	}
	for _, name := range []string{"clone", "clone3"} {
		if r := rulesFor(admin, name); len(r) != 1 || r[0].Action != specs.ActAllow || r[0].Args != nil {
			t.Errorf("%s with CAP_SYS_ADMIN has the rules %+v; want it let through", name, r)
		}
	}
}
