//go:build linux

package speccheck

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

func checkDevices(s *specs.Spec) error {
	if len(s.Linux.Devices) == 0 {
		return nil
	}
	if slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return isBind(&m) && path.Clean(m.Destination) == "/dev" }) {
		return failure.Field("linux.devices", "/dev is a bind mount, in which none are made")
	}
	for i, d := range s.Linux.Devices {
		field := fmt.Sprintf("linux.devices[%d]", i)
		if err := absolute(field+".path", d.Path); err != nil {
			return err
		}
		if err := firstBroken(
			rule{path.Clean(d.Path) == "/dev/ptmx", field + ".path", "/dev/ptmx is always a link to pts/ptmx"},
			rule{!slices.Contains([]string{"c", "u", "b", "p"}, d.Type), field + ".type", fmt.Sprintf("%.16q, must be c, u, b or p", d.Type)},
			rule{d.Type != "p" && (d.Major < 0 || d.Minor < 0), field, "major and minor must not be negative"},
			rule{d.FileMode != nil && *d.FileMode&^(unix.S_IFMT|0o7777) != 0, field + ".fileMode", "must be a file's mode"},
		); err != nil {
			return err
		}
	}
	return nil
}

// checkDeviceRules refuses rules whose parts libcontainer ignores: of one for all types only "allow" counts, so that allowing a single device of either type would allow all.
func checkDeviceRules(list []specs.LinuxDeviceCgroup) error {
	for i, d := range list {
		field := fmt.Sprintf("linux.resources.devices[%d]", i)
		every := d.Type == "" || d.Type == "a"
		narrow := d.Major != nil && *d.Major != -1 || d.Minor != nil && *d.Minor != -1
		if err := firstBroken(
			rule{!every && d.Type != "b" && d.Type != "c", field + ".type", fmt.Sprintf("%.16q, must be a, b or c", d.Type)},
			rule{d.Access == "" || strings.Trim(d.Access, "rwm") != "", field + ".access", fmt.Sprintf("%.16q, must be of r, w and m", d.Access)},
			rule{d.Major != nil && *d.Major < -1, field + ".major", "must be -1 or more"},
			rule{d.Minor != nil && *d.Minor < -1, field + ".minor", "must be -1 or more"},
			rule{every && narrow, field + ".type", "must be b or c where a number is given"},
			rule{every && !allAccess(d.Access), field + ".access", "must be rwm where the rule is for all devices"},
		); err != nil {
			return err
		}
	}
	return nil
}

func allAccess(access string) bool {
	return strings.Contains(access, "r") && strings.Contains(access, "w") && strings.Contains(access, "m")
}
