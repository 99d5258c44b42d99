//go:build linux

package speccheck

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// checkMappedDevices looks at the guest's own device files where there is a user namespace. No device can be made in one, so libcontainer binds the guest's file of the same
// path, whatever the spec says of it.
func checkMappedDevices(s *specs.Spec) error {
	if namespace(s, specs.UserNamespace) == nil {
		return nil
	}
	for i, d := range s.Linux.Devices {
		field := fmt.Sprintf("linux.devices[%d]", i)
		var st unix.Stat_t
		if err := unix.Stat(d.Path, &st); err != nil {
			return failure.Field(field+".path", "in a user namespace the guest's own device is used: %v", &os.PathError{Op: "stat", Path: d.Path, Err: err})
		}
		if name := unlike(d, &st); name != "" {
			return failure.Field(field+name, "in a user namespace it must be as that of the guest's own %s", d.Path)
		}
	}
	return nil
}

// unlike names what a device's file has otherwise than the spec says.
func unlike(d specs.LinuxDevice, st *unix.Stat_t) string {
	kinds := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	switch {
	case st.Mode&unix.S_IFMT != kinds[d.Type]:
		return ".type"
	case d.Type != "p" && int64(unix.Major(uint64(st.Rdev))) != d.Major:
		return ".major"
	case d.Type != "p" && int64(unix.Minor(uint64(st.Rdev))) != d.Minor:
		return ".minor"
	case d.FileMode != nil && uint32(*d.FileMode)&0o7777 != st.Mode&0o7777:
		return ".fileMode"
	case d.UID != nil && *d.UID != st.Uid:
		return ".uid"
	case d.GID != nil && *d.GID != st.Gid:
		return ".gid"
	}
	return ""
}
