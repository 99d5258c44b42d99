//go:build linux

package speccheck

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// recursive are the options that mount_setattr(2) sets on a tree of mounts. Libcontainer does that for binds only.
var recursive = []string{
	"rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnodiratime", "rdiratime", "rrelatime", "rnorelatime",
	"rnoatime", "ratime", "rstrictatime", "rnostrictatime", "rnosymfollow", "rsymfollow",
}

func checkMounts(s *specs.Spec) error {
	for i := range s.Mounts {
		if err := checkMount(fmt.Sprintf("mounts[%d]", i), &s.Mounts[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkMount(field string, m *specs.Mount) error {
	if err := absolute(field+".destination", m.Destination); err != nil {
		return err
	}
	bind := isBind(m)
	if bind {
		if err := absolute(field+".source", m.Source); err != nil {
			return err
		}
	}
	if err := firstBroken(
		rule{!bind && m.Type == "", field + ".type", "missing"},
		rule{!bind && len(m.UIDMappings) > 0, field + ".uidMappings", "is for bind mounts"},
		rule{!bind && len(m.GIDMappings) > 0, field + ".gidMappings", "is for bind mounts"},
	); err != nil {
		return err
	}
	for _, o := range m.Options {
		switch {
		case slices.Contains(recursive, o) && !bind:
			return failure.Field(field+".options", "%s is for bind mounts", o)
		case o == "tmpcopyup" && m.Type != "tmpfs":
			return failure.Field(field+".options", "tmpcopyup is for tmpfs")
		}
	}
	return nil
}

func isBind(m *specs.Mount) bool {
	return slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

func checkPaths(s *specs.Spec) error {
	for field, list := range map[string][]string{"linux.maskedPaths": s.Linux.MaskedPaths, "linux.readonlyPaths": s.Linux.ReadonlyPaths} {
		for _, name := range list {
			if err := absolute(field, name); err != nil {
				return err
			}
		}
	}
	return nil
}
