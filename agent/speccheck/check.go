//go:build linux

package speccheck

import (
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// Check refuses what the spec itself shows to be unsupported. The spec has a process, a root and a Linux section, as container.ParseSpec has seen to; the namespaces
// shared are joined although it does not name them. The errors are INVALID_ARGUMENT and name the field.
func Check(s *specs.Spec, shared ...specs.LinuxNamespaceType) error {
	s = withShared(s, shared)
	if err := checkText(s); err != nil {
		return err
	}
	for _, check := range []func(*specs.Spec) error{
		checkProcess, checkCapabilities, checkScheduling, checkMounts, checkPaths, checkHooks, checkAnnotations,
		checkNamespaces, checkMappings, checkNames, checkTimeOffsets, checkNetDevices, checkPersonality, checkDevices,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	if r := s.Linux.Resources; r != nil {
		if err := checkResources(r); err != nil {
			return err
		}
	}
	if s.Linux.Seccomp != nil {
		return checkSeccomp(s.Linux.Seccomp)
	}
	return nil
}

// A rule refuses a field when it is broken.
type rule struct {
	broken bool
	field  string
	why    string
}

// firstBroken gives the error of the first rule that is broken.
func firstBroken(rules ...rule) error {
	for _, r := range rules {
		if r.broken {
			return failure.Field(r.field, "%s", r.why)
		}
	}
	return nil
}

// absolute refuses a path of the container's or the guest's root that is not absolute: there is no directory that it could be relative to.
func absolute(field, name string) error {
	if path.IsAbs(name) {
		return nil
	}
	return failure.Field(field, "%.256q, must be an absolute path", name)
}
