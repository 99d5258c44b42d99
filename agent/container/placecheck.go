//go:build linux

package container

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// CheckFiles refuses files that cannot be put into any container.
func CheckFiles(files []*pb.File) error {
	if len(files) > protocol.MaxFileCount {
		return failure.Field("container.files", "%d, at most %d", len(files), protocol.MaxFileCount)
	}
	total := 0
	seen := make(map[string]bool)
	for i, f := range files {
		total += len(f.Content)
		name := fmt.Sprintf("container.files[%d]", i)
		switch {
		case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" || strings.ContainsRune(f.Path, 0) || len(f.Path) >= unix.PathMax:
			return failure.Field(name+".path", "%.256q, must be an absolute, clean path other than /", f.Path)
		case seen[f.Path]:
			return failure.Field(name+".path", "%.256q is there twice", f.Path)
		case f.Mode > 0o777:
			return failure.Field(name+".mode", "%#o, only permissions are allowed", f.Mode)
		case len(f.Content) > protocol.MaxFile || total > protocol.MaxFiles:
			return failure.Field(name+".content", "%d bytes, and %d with those before; at most %d and %d", len(f.Content), total, protocol.MaxFile, protocol.MaxFiles)
		}
		seen[f.Path] = true
	}
	return nil
}

// hostIDs gives the owner of a file the numbers that it has outside the container's user namespace. Those of a namespace that exists are not known here.
func hostIDs(spec *specs.Spec, uid, gid uint32) (hostUID, hostGID int, err error) {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace && n.Path != "" {
			return 0, 0, failure.New(errdefs.ErrNotImplemented, "files for a container that joins a user namespace")
		}
	}
	if hostUID, err = hostID("uid", spec.Linux.UIDMappings, uid); err != nil {
		return 0, 0, err
	}
	hostGID, err = hostID("gid", spec.Linux.GIDMappings, gid)
	return hostUID, hostGID, err
}

// hostID maps an id. Without mappings it is the same inside and outside.
func hostID(name string, mappings []specs.LinuxIDMapping, id uint32) (int, error) {
	if len(mappings) == 0 {
		return int(id), nil
	}
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + (id - m.ContainerID)), nil
		}
	}
	return 0, failure.Field(name, "%d is not mapped in the container's user namespace", id)
}
