//go:build linux

package agent

import (
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// ownNamespace is a namespace as /proc shows it, which each container has its own of.
var ownNamespace = regexp.MustCompile(`([a-z]+):\[\d+\]`)

// TestGuestGivenFilter has first processes whose filter the agent gave them, and ones to which libcontainer's init did. They see the same, and the filter holds.
func TestGuestGivenFilter(t *testing.T) {
	g := newGuest(t)
	g.open()
	user := func(s *specs.Spec) { s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{50}} }
	for _, c := range []struct {
		name    string
		change  func(*specs.Spec)
		builtIn pb.BuiltIn
	}{
		{name: "root", change: func(*specs.Spec) {}},
		{name: "user", change: user},
		{name: "no new privileges", change: func(s *specs.Spec) { s.Process.NoNewPrivileges = true }},
		{name: "user, no new privileges, no capabilities", change: func(s *specs.Spec) {
			user(s)
			s.Process.NoNewPrivileges = true
			s.Process.Capabilities = nil
		}},
		{name: "user namespace", change: mapIDs},
		{name: "user of a user namespace", change: func(s *specs.Spec) { mapIDs(s); user(s) }},
		{name: "built-in init", change: user, builtIn: pb.BuiltIn_BUILT_IN_INIT},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := func(given bool, calls ...string) string {
				spec := g.spec("sh", "-c", "busybox mkdir /tmp/denied 2>&1 || echo refused;"+seen)
				c.change(spec)
				deny(spec, calls...)
				s := g.outputs()
				req := g.container("c", spec, s)
				req.GetContainer().BuiltIn = c.builtIn
				g.must(createReq(req))
				if lc, err := libcontainer.Load(g.state, "c"); err != nil || (lc.Config().Seccomp == nil) != given {
					t.Errorf("libcontainer.Load() = %v; want one that knows of a filter: %v", err, !given)
				}
				g.must(startReq("c"))
				if d := g.must(waitReq("c")).GetDrained(); d.Exited.Code != 0 {
					t.Errorf("Wait() = %v; want code 0", d)
				}
				g.must(deleteReq("c", false))
				out, _ := s.output(pb.Stream_STREAM_STDOUT)
				return ownNamespace.ReplaceAllString(plainSeen(out), "$1")
			}
			given := first(true, "mkdir")
			if !strings.Contains(given, "refused\n") {
				t.Errorf("mkdir was not refused:\n%s", given)
			}
			compareSeen(t, given, first(false, "mkdir", "sched_yield"), "Seccomp_filters:\t1", "that was given its filter")
		})
	}
	noLeftovers(t)
}

// TestGuestStrictFilter has filters that would kill a thread in libcontainer's init, and all with it, and that leave alone the one that executes the program.
func TestGuestStrictFilter(t *testing.T) {
	g := newGuest(t)
	for name, rule := range map[string]specs.LinuxSyscall{
		"nanosleep":          {Names: []string{"nanosleep"}},
		"some uses of write": {Names: []string{"write"}, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 3, Op: specs.OpEqualTo}}},
	} {
		for range 5 {
			rule.Action = specs.ActKillProcess
			spec := g.spec("true")
			spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{rule}}
			s := g.outputs()
			if exit, _ := g.run(g.container("c", spec, s), s); exit.Code != 0 || exit.Signal != 0 {
				t.Errorf("true with a filter against %s = %v; want code 0", name, exit)
			}
		}
	}
	noLeftovers(t)
}
