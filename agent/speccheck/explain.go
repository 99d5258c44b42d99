//go:build linux

package speccheck

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Explain gives the error of a container that could not be made the name of a field, where it has no code and a field wants what the guest has not. It looks only then: a hook, a mount before another,
// or the kernel by itself may have brought in time what is not there before.
func Explain(s *specs.Spec, err error) error {
	if err == nil || protocol.CodeOf(err) != pb.Code_CODE_UNKNOWN {
		return err
	}
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok { // to look for it now would find those missing, too, that are moved already
		return failure.Field("linux.netDevices", "the guest has no such interface (%v)", err)
	}
	for _, missing := range []func(*specs.Spec) (field, why string){missingMount, missingSysctl, missingDisk, unreachableLimit} {
		if field, why := missing(s); field != "" {
			return failure.Field(field, "%s (%v)", why, err)
		}
	}
	return err
}

func missingMount(s *specs.Spec) (field, why string) {
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return "", ""
	}
	types := strings.Fields(string(known))
	for i, m := range s.Mounts {
		switch field := fmt.Sprintf("mounts[%d]", i); {
		case isBind(&m) && !anyExists("/", []string{m.Source}):
			return field + ".source", fmt.Sprintf("the guest has no %.256q", m.Source)
		case !isBind(&m) && m.Type != "cgroup" && !slices.Contains(types, m.Type): // which becomes cgroup2
			return field + ".type", fmt.Sprintf("the guest's kernel has no file system %.64q", m.Type)
		}
	}
	return "", ""
}

func missingSysctl(s *specs.Spec) (field, why string) {
	for name := range s.Linux.Sysctl {
		if !anyExists("/proc/sys", []string{name, strings.ReplaceAll(name, ".", "/")}) && !ofInterface(name) {
			return "linux.sysctl", fmt.Sprintf("the guest's kernel has no %.256q", name)
		}
	}
	return "", ""
}

// ofInterface says whether a sysctl is one interface's, which the container's network may have and the guest's has not.
func ofInterface(sysctl string) bool {
	path := strings.ReplaceAll(sysctl, ".", "/")
	return strings.Contains(path, "/conf/") || strings.Contains(path, "/neigh/")
}

// missingDisk looks for the block devices whose traffic is to be limited.
func missingDisk(s *specs.Spec) (field, why string) {
	r := s.Linux.Resources
	if r == nil || r.BlockIO == nil {
		return "", ""
	}
	for field, list := range throttles(r.BlockIO) {
		for _, d := range list {
			if number := fmt.Sprintf("%d:%d", d.Major, d.Minor); !anyExists("/sys/dev/block", []string{number}) {
				return "linux.resources.blockIO." + field, "the guest has no block device " + number
			}
		}
	}
	return "", ""
}

// unreachableLimit knows the one limit that has a limit of its own, proc_sys_fs(5).
func unreachableLimit(s *specs.Spec) (field, why string) {
	text, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return "", ""
	}
	most, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return "", ""
	}
	for i, l := range s.Process.Rlimits {
		if l.Type == "RLIMIT_NOFILE" && l.Hard > most {
			return fmt.Sprintf("process.rlimits[%d].hard", i), fmt.Sprintf("the guest's kernel allows %d", most)
		}
	}
	return "", ""
}
