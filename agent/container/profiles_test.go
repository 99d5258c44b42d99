//go:build linux && cgo && seccomp

package container

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// allowing is a profile, as many different ones as there are numbers.
func allowing(number int) json.RawMessage {
	return fmt.Appendf(nil, `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":%d,"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`, number)
}

func decode(t *testing.T, p *Profiles, text json.RawMessage) *specs.LinuxSeccomp {
	t.Helper()
	spec, err := p.decode(text)
	if err != nil || spec == nil {
		t.Fatalf("decode(%.200s) = %v, %v; want a profile", text, spec, err)
	}
	return spec
}

func TestProfilesAreKept(t *testing.T) {
	p := new(Profiles)
	first := decode(t, p, allowing(1))
	if again := decode(t, p, allowing(1)); again != first {
		t.Error("decode() of the same profile gives another; want the one that is kept")
	}
	compiled, err := p.filter(first)
	if err != nil || compiled.IsZero() {
		t.Fatalf("filter() = %v, %v; want a filter", compiled, err)
	}
	if again, err := p.filter(first); err != nil || &again.Program[0] != &compiled.Program[0] {
		t.Errorf("filter() again = another program, %v; want the one that is kept", err)
	}
	for n := range 3 * maxProfiles {
		decode(t, p, allowing(n+2))
	}
	if n := len(p.kept); n > maxProfiles {
		t.Errorf("%d profiles are kept; want %d at most", n, maxProfiles)
	}
	if forgotten, err := p.filter(first); err != nil || forgotten.IsZero() {
		t.Errorf("filter() of a profile that is kept no more = %v, %v; want a filter", forgotten, err)
	}
}

func TestLongProfiles(t *testing.T) {
	p := new(Profiles)
	long := decode(t, p, append(allowing(1), strings.Repeat(" ", maxProfile)...))
	if f, err := p.filter(long); err != nil || f.IsZero() {
		t.Errorf("filter() = %v, %v; want a filter", f, err)
	}
	if len(p.kept) != 0 {
		t.Errorf("a profile of more than %d bytes is kept", maxProfile)
	}
}

// TestProfileAfterFailure has a machine that cannot compile a profile at first.
func TestProfileAfterFailure(t *testing.T) {
	p := new(Profiles)
	spec := decode(t, p, allowing(1))
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, failed := p.filter(spec)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if failed == nil {
		t.Fatal("filter() without a file descriptor = nil; want an error")
	}
	if f, err := p.filter(spec); err != nil || f.IsZero() {
		t.Errorf("filter() afterwards = %v, %v; want a filter", f, err)
	}
}

// TestProfileInSpec has profiles where a decoder might lose them.
func TestProfileInSpec(t *testing.T) {
	for _, c := range []struct {
		name, linux string
		profile     bool
		field       string // refused; empty: none
	}{
		{"none", `{"namespaces":[{"type":"mount"}]}`, false, ""},
		{"null", `{"seccomp":null,"namespaces":[{"type":"mount"}]}`, false, ""},
		{"one", `{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"namespaces":[{"type":"mount"}]}`, true, ""},
		{"in capitals", `{"SecComp":{"defaultAction":"SCMP_ACT_ALLOW"},"namespaces":[{"type":"mount"}]}`, true, ""},
		{"unknown field", `{"seccomp":{"colour":"red"},"namespaces":[{"type":"mount"}]}`, false, "linux.seccomp"},
		{"unknown field beside it", `{"seccomp":null,"colour":"red"}`, false, "spec"},
		{"wrong type", `{"seccomp":"SCMP_ACT_ALLOW"}`, false, "linux.seccomp"},
		{"null around it", `null`, false, "linux.namespaces"},
	} {
		text := strings.Replace(minimal, `{"namespaces":[{"type":"mount"}]}`, c.linux, 1)
		spec, err := ParseSpec([]byte(text), pb.BuiltIn_BUILT_IN_NONE, new(Profiles))
		if c.field != "" {
			if err == nil || failure.Status(err).Field != c.field {
				t.Errorf("%s: ParseSpec() = %v; want field %s refused", c.name, err, c.field)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: ParseSpec() = %v", c.name, err)
		} else if got := spec.Linux.Seccomp != nil; got != c.profile {
			t.Errorf("%s: ParseSpec() has a profile: %v; want %v", c.name, got, c.profile)
		}
	}
}
