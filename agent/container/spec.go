//go:build linux

package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// document is a spec of which the seccomp profile is not decoded yet.
type document struct {
	specs.Spec
	Linux *struct {
		specs.Linux
		Seccomp json.RawMessage `json:"seccomp"`
	} `json:"linux"`
}

// ParseSpec decodes a config.json strictly: a field that the runtime-spec does not name is refused by its name, and so is what could not be done. A container whose first process is only a pause needs no
// root, whose place is then nil, and no process. Its seccomp profile is one of those kept.
func ParseSpec(b []byte, first pb.BuiltIn, kept *Profiles) (*specs.Spec, error) {
	var doc document
	if err := decodeStrictly(b, "spec", &doc); err != nil {
		return nil, err
	}
	spec := &doc.Spec
	if doc.Linux != nil {
		spec.Linux = &doc.Linux.Linux
		var err error
		if spec.Linux.Seccomp, err = kept.decode(doc.Linux.Seccomp); err != nil {
			return nil, err
		}
		doc.Linux.Seccomp = nil // which would live as long as the spec
	}
	if err := checkBuiltIn(spec, first); err != nil {
		return nil, err
	}
	return spec, checkSpec(spec, first)
}

// decodeStrictly decodes one JSON object. The errors name the field of the request that it came in.
func decodeStrictly(b []byte, field string, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return failure.Field(field, "%v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return failure.Field(field, "something follows the JSON object")
	}
	return nil
}

// checkSpec refuses what libcontainer would ignore or do in the agent's own namespaces.
func checkSpec(s *specs.Spec, first pb.BuiltIn) error {
	switch {
	case !strings.HasPrefix(s.Version, "1."):
		return failure.Field("ociVersion", "%q, must be 1.x", s.Version)
	case s.Process == nil:
		return failure.Field("process", "missing")
	case s.Root == nil && first != pb.BuiltIn_BUILT_IN_PAUSE, s.Root != nil && !path.IsAbs(s.Root.Path):
		return failure.Field("root.path", "must be an absolute path in the guest")
	case s.Linux == nil || !hasNamespace(s, specs.MountNamespace):
		return failure.Field("linux.namespaces", "must have a mount namespace")
	}
	if name := foreignSection(s); name != "" {
		return failure.Field(name, "is not for Linux")
	}
	return checkProcess(s.Process)
}

func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == t {
			return true
		}
	}
	return false
}

// foreignSection names a section for another platform.
func foreignSection(s *specs.Spec) string {
	for _, section := range []struct {
		name string
		set  bool
	}{
		{"solaris", s.Solaris != nil},
		{"windows", s.Windows != nil},
		{"vm", s.VM != nil},
		{"zos", s.ZOS != nil},
		{"freebsd", s.FreeBSD != nil},
		{"process.commandLine", s.Process.CommandLine != ""},
	} {
		if section.set {
			return section.name
		}
	}
	return ""
}

func checkProcess(p *specs.Process) error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return failure.Field("process.args", "must name a program")
	}
	if !path.IsAbs(p.Cwd) {
		return failure.Field("process.cwd", "%q, must be an absolute path", p.Cwd)
	}
	size := 0
	for _, list := range [][]string{p.Args, p.Env} {
		for _, s := range list {
			if strings.ContainsRune(s, 0) {
				return failure.Field("process.args or env", "%.64q contains a NUL byte", s)
			}
			size += len(s) + 1
		}
	}
	if size > protocol.MaxArgsAndEnv {
		return failure.Field("process.args and env", "%d bytes, at most %d", size, protocol.MaxArgsAndEnv)
	}
	for _, e := range p.Env {
		if i := strings.IndexByte(e, '='); i <= 0 {
			return failure.Field("process.env", "%.64q, must be NAME=VALUE", e)
		}
	}
	return nil
}
