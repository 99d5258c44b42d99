//go:build linux

package speccheck

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

func checkNamespaces(s *specs.Spec) error {
	seen := make(map[specs.LinuxNamespaceType]bool)
	for i, ns := range s.Linux.Namespaces {
		field := fmt.Sprintf("linux.namespaces[%d]", i)
		switch {
		case !slices.Contains(specconv.KnownNamespaces(), string(ns.Type)):
			return failure.Field(field+".type", "no such namespace as %.64q", ns.Type)
		case seen[ns.Type]:
			return failure.Field(field+".type", "%s is there twice", ns.Type)
		}
		seen[ns.Type] = true
		if ns.Path != "" {
			if err := absolute(field+".path", ns.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// withShared gives the spec with shared namespaces as ones to join. Their paths are not known yet.
func withShared(s *specs.Spec, shared []specs.LinuxNamespaceType) *specs.Spec {
	out, linux := *s, *s.Linux
	out.Linux, linux.Namespaces = &linux, slices.Clone(linux.Namespaces)
	for _, t := range shared {
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: t, Path: "/"})
	}
	return &out
}

// namespace finds a namespace of the container's; nil: it shares that of the agent.
func namespace(s *specs.Spec, t specs.LinuxNamespaceType) *specs.LinuxNamespace {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == t {
			return &s.Linux.Namespaces[i]
		}
	}
	return nil
}

func checkMappings(s *specs.Spec) error {
	const why = "needs a user namespace"
	user := namespace(s, specs.UserNamespace)
	l := s.Linux
	return firstBroken(
		rule{user == nil && len(l.UIDMappings) > 0, "linux.uidMappings", why},
		rule{user == nil && len(l.GIDMappings) > 0, "linux.gidMappings", why},
		rule{user != nil && user.Path == "" && len(l.UIDMappings) == 0, "linux.uidMappings", "missing for the new user namespace"},
		rule{user != nil && user.Path == "" && len(l.GIDMappings) == 0, "linux.gidMappings", "missing for the new user namespace"},
	)
}

// maxName is __NEW_UTS_LEN, uname(2).
const maxName = 64

func checkNames(s *specs.Spec) error {
	own := namespace(s, specs.UTSNamespace) != nil
	for field, name := range map[string]string{"hostname": s.Hostname, "domainname": s.Domainname} {
		if err := firstBroken(
			rule{name != "" && !own, field, "needs a uts namespace"},
			rule{len(name) > maxName, field, fmt.Sprintf("%d bytes, at most %d", len(name), maxName)},
		); err != nil {
			return err
		}
	}
	return nil
}

func checkTimeOffsets(s *specs.Spec) error {
	const field = "linux.timeOffsets"
	if len(s.Linux.TimeOffsets) == 0 {
		return nil
	}
	if ns := namespace(s, specs.TimeNamespace); ns == nil || ns.Path != "" {
		return failure.Field(field, "needs a new time namespace")
	}
	for clock, offset := range s.Linux.TimeOffsets {
		switch {
		case clock != "monotonic" && clock != "boottime":
			return failure.Field(field, "%.64q, must be monotonic or boottime", clock)
		case offset.Nanosecs >= 1e9:
			return failure.Field(field, "%s: nanosecs must be less than a second", clock)
		}
	}
	return nil
}

// maxInterface is the longest name of a network interface: IFNAMSIZ less its NUL.
const maxInterface = 15

func checkNetDevices(s *specs.Spec) error {
	const field = "linux.netDevices"
	if len(s.Linux.NetDevices) > 0 && namespace(s, specs.NetworkNamespace) == nil {
		return failure.Field(field, "needs a network namespace")
	}
	for name, device := range s.Linux.NetDevices {
		if len(name) > maxInterface || len(device.Name) > maxInterface {
			return failure.Field(field, "%.64q: names have at most %d bytes", name, maxInterface)
		}
	}
	return nil
}

func checkPersonality(s *specs.Spec) error {
	p := s.Linux.Personality
	if p == nil {
		return nil
	}
	return firstBroken(
		rule{p.Domain != specs.PerLinux && p.Domain != specs.PerLinux32, "linux.personality.domain", "must be LINUX or LINUX32"},
		rule{len(p.Flags) > 0, "linux.personality.flags", "is not supported"},
	)
}
