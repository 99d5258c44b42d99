//go:build linux

package container

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Share is a namespace that a container has together with another.
type Share struct {
	Type  specs.LinuxNamespaceType
	Owner string   // id of the other container
	file  *os.File // the namespace
	shm   *os.File // with an IPC namespace: a copy of the tmpfs on the other container's /dev/shm, mounted nowhere; nil if it has none
}

// Close lets go of the namespace.
func (s *Share) Close() {
	for _, f := range []*os.File{s.file, s.shm} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// CheckShares refuses namespaces that cannot be shared, and what a spec says of those that are.
func CheckShares(spec *specs.Spec, shares []*pb.Share) error {
	seen := make(map[specs.LinuxNamespaceType]bool)
	for _, s := range shares {
		t := specs.LinuxNamespaceType(s.Type)
		switch {
		case namespaceFiles[t] == "":
			return failure.Field("share.type", "%.64q, must be network, ipc, uts, pid, user or time", s.Type)
		case seen[t]:
			return failure.Field("share.type", "%s is there twice", t)
		case hasNamespace(spec, t):
			return failure.Field("linux.namespaces", "%s is there, and shared with container %s too", t, s.Container)
		case t == specs.UserNamespace && len(spec.Linux.UIDMappings)+len(spec.Linux.GIDMappings) > 0:
			return failure.Field("linux.uidMappings", "the user namespace is that of container %s", s.Container)
		case t == specs.TimeNamespace && len(spec.Linux.TimeOffsets) > 0:
			return failure.Field("linux.timeOffsets", "the time namespace is that of container %s", s.Container)
		}
		seen[t] = true
	}
	return nil
}

// Join gives the spec with the shared namespaces as ones to join by path. The paths are good, for every process of the guest's first pid namespace, as long as the files are open in this one.
// A namespace that is the agent's own, since the other container has none, needs no joining.
func Join(spec *specs.Spec, shares []Share) (*specs.Spec, error) {
	if len(shares) == 0 {
		return spec, nil
	}
	home, err := homeOf(spec, shares)
	if err != nil {
		return nil, err
	}
	joined, linux := *spec, *spec.Linux
	joined.Linux, linux.Namespaces = &linux, slices.Clone(linux.Namespaces)
	for _, s := range shares {
		own, err := isOwn(s)
		if err != nil {
			return nil, err
		}
		if own {
			continue
		}
		if err := s.checkHome(home); err != nil {
			return nil, err
		}
		path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd())
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: s.Type, Path: path})
	}
	return &joined, nil
}

// isOwn says whether the namespace is the agent's.
func isOwn(s Share) (bool, error) {
	own, err := identify("/proc/self/ns/" + namespaceFiles[s.Type])
	if err != nil {
		return false, err
	}
	id, err := identifyFile(s.file)
	return id == own, err
}

// homeOf gives the user namespace that the container will live in; nothing for one that is yet to be made.
func homeOf(spec *specs.Spec, shares []Share) (namespaceID, error) {
	for _, s := range shares {
		if s.Type == specs.UserNamespace {
			return identifyFile(s.file)
		}
	}
	for _, n := range spec.Linux.Namespaces {
		switch {
		case n.Type != specs.UserNamespace:
		case n.Path == "":
			return namespaceID{}, nil
		default:
			return identify(n.Path)
		}
	}
	return identify("/proc/self/ns/user")
}

// checkHome refuses a namespace that belongs to another user namespace than the container will live in: a container that has no privilege over its network, say, cannot even mount its /sys.
func (s Share) checkHome(home namespaceID) error {
	if s.Type == specs.UserNamespace {
		return nil
	}
	owner, err := ownerOf(s.file)
	if err != nil {
		return err
	}
	if owner != home {
		return failure.Field("share", "the %s namespace of container %s belongs to another user namespace, which must be shared too", s.Type, s.Owner)
	}
	return nil
}

// namespaceID tells namespaces apart while they exist.
type namespaceID struct{ device, inode uint64 }

func identify(path string) (namespaceID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return namespaceID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return namespaceID{st.Dev, st.Ino}, nil
}

func identifyFile(f *os.File) (namespaceID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return namespaceID{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return namespaceID{st.Dev, st.Ino}, nil
}

// nsGetUserNS is NS_GET_USERNS of ioctl_ns(2).
const nsGetUserNS = 0xb701

// ownerOf gives the user namespace that a namespace belongs to.
func ownerOf(f *os.File) (namespaceID, error) {
	fd, err := unix.IoctlRetInt(int(f.Fd()), nsGetUserNS)
	if err != nil {
		return namespaceID{}, fmt.Errorf("cannot find the user namespace of %s: %w", f.Name(), err)
	}
	owner := os.NewFile(uintptr(fd), "user namespace")
	defer owner.Close()
	return identifyFile(owner)
}
