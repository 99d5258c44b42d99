//go:build linux

package container

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

const minimal = `{"ociVersion":"1.2.0","root":{"path":"/r"},"process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},"linux":{"namespaces":[{"type":"mount"}]}}`

func TestParseSpec(t *testing.T) {
	if _, err := ParseSpec([]byte(minimal), pb.BuiltIn_BUILT_IN_NONE, new(Profiles)); err != nil {
		t.Fatalf("ParseSpec(minimal) = %v", err)
	}
	replace := func(from, to string) string {
		if !strings.Contains(minimal, from) {
			t.Fatalf("%q is not in the spec", from)
		}
		return strings.Replace(minimal, from, to, 1)
	}
	for _, tt := range []struct{ name, spec, field string }{
		{"empty", "", "spec"},
		{"not JSON", "hello", "spec"},
		{"cut", minimal[:len(minimal)-3], "spec"},
		{"two", minimal + minimal, "spec"},
		{"unknown field", replace(`"args"`, `"colour":"red","args"`), "spec"},
		{"wrong type", replace(`"args":["sh"]`, `"args":"sh"`), "spec"},
		{"version", replace(`"1.2.0"`, `"2.0"`), "ociVersion"},
		{"no process", replace(`"process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},`, ``), "process"},
		{"no root", replace(`"root":{"path":"/r"},`, ``), "root.path"},
		{"relative root", replace(`"/r"`, `"r"`), "root.path"},
		{"no mount namespace", replace(`"mount"`, `"pid"`), "linux.namespaces"},
		{"no args", replace(`["sh"]`, `[]`), "process.args"},
		{"empty program", replace(`["sh"]`, `[""]`), "process.args"},
		{"NUL in args", replace(`["sh"]`, `["sh","a\u0000b"]`), "process.args or env"},
		{"relative cwd", replace(`"cwd":"/"`, `"cwd":"x"`), "process.cwd"},
		{"env without =", replace(`"cwd"`, `"env":["A"],"cwd"`), "process.env"},
		{"env without name", replace(`"cwd"`, `"env":["=A"],"cwd"`), "process.env"},
		{"huge env", replace(`"cwd"`, `"env":["A=`+strings.Repeat("x", 600<<10)+`"],"cwd"`), "process.args and env"},
		{"windows", replace(`"linux"`, `"windows":{"layerFolders":null},"linux"`), "windows"},
		{"command line", replace(`"cwd"`, `"commandLine":"x","cwd"`), "process.commandLine"},
	} {
		_, err := ParseSpec([]byte(tt.spec), pb.BuiltIn_BUILT_IN_NONE, new(Profiles))
		if !errors.Is(err, errdefs.ErrInvalidArgument) || failure.Status(err).Field != tt.field {
			t.Errorf("%s: ParseSpec() = %v (field %q); want invalid argument, field %q", tt.name, err, failure.Status(err).Field, tt.field)
		}
		if tt.name == "unknown field" && !strings.Contains(err.Error(), "colour") {
			t.Errorf("%s: %v does not name it", tt.name, err)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(`{"process":null,"linux":{"namespaces":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		spec, err := ParseSpec(b, pb.BuiltIn_BUILT_IN_NONE, new(Profiles))
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("ParseSpec() = %v; want invalid argument", err)
			}
			return
		}
		if _, err := newProcess(&Request{Spec: spec}); err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("newProcess() = %v; want invalid argument", err)
		}
		again, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSpec(again, pb.BuiltIn_BUILT_IN_NONE, new(Profiles)); err != nil {
			t.Errorf("ParseSpec of its own JSON = %v", err)
		}
	})
}

func TestRlimits(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []specs.POSIXRlimit
		ok   bool
	}{
		{"none", nil, true},
		{"one", []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}}, true},
		{"unknown", []specs.POSIXRlimit{{Type: "RLIMIT_X"}}, false},
		{"twice", []specs.POSIXRlimit{{Type: "RLIMIT_CPU"}, {Type: "RLIMIT_CPU"}}, false},
		{"soft above hard", []specs.POSIXRlimit{{Type: "RLIMIT_CPU", Soft: 2, Hard: 1}}, false},
	} {
		got, err := rlimits(tt.in)
		if (err == nil) != tt.ok {
			t.Errorf("%s: rlimits() = %v, %v; want success %v", tt.name, got, err, tt.ok)
		}
		files := 0
		for _, l := range got {
			if l.Type == unix.RLIMIT_NOFILE {
				files++
			}
		}
		if tt.ok && files != 1 {
			t.Errorf("%s: %d limits of open files; want 1, so that the agent's is not inherited", tt.name, files)
		}
	}
}

// TestReported reads the texts that this binary itself makes of an execve's error.
func TestReported(t *testing.T) {
	for text, want := range map[string]error{
		"exec /bin/x: no such file or directory": errdefs.ErrNotFound,
		"exec /bin/x: permission denied":         errdefs.ErrPermissionDenied,
		"exec /bin/x: exec format error":         errdefs.ErrPermissionDenied,
		"exec /bin/x: argument list too long":    errdefs.ErrInvalidArgument,
		"a hook said something":                  errdefs.ErrUnknown,
	} {
		if err := reported("x", text); !errors.Is(err, want) {
			t.Errorf("reported(%q) = %v; want %v", text, err, want)
		}
	}
}
