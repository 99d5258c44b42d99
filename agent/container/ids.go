//go:build linux

package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// idMaps say which numbers the users and groups of a container have outside of its user namespace. Without mappings they have the same.
type idMaps struct {
	uid, gid []specs.LinuxIDMapping
}

// idMapsOf gives those of a new container. A user namespace that it joins is asked.
func idMapsOf(spec *specs.Spec) (idMaps, error) {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace && n.Path != "" {
			return idMapsAt(n.Path)
		}
	}
	return idMaps{spec.Linux.UIDMappings, spec.Linux.GIDMappings}, nil
}

// idMapsAt reads those of the user namespace at path, from a process that is in it: the namespace itself does not tell.
func idMapsAt(path string) (idMaps, error) {
	namespace, err := identify(path)
	if err != nil {
		return idMaps{}, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return idMaps{}, err
	}
	for _, p := range processes {
		if maps, ok := idMapsIn(p, namespace); ok {
			return maps, nil
		}
	}
	return idMaps{}, failure.New(errdefs.ErrFailedPrecondition, "nobody is in the user namespace that is to be joined")
}

// idMapsIn looks at the process twice, since another may have its pid by the second time.
func idMapsIn(process string, namespace namespaceID) (maps idMaps, ok bool) {
	in := func() bool {
		id, err := identify(process + "/ns/user")
		return err == nil && id == namespace
	}
	if !in() {
		return maps, false
	}
	uid, uerr := readIDMap(process + "/uid_map")
	gid, gerr := readIDMap(process + "/gid_map")
	return idMaps{uid, gid}, uerr == nil && gerr == nil && in()
}

// readIDMap reads a file of the form of /proc/self/uid_map, user_namespaces(7).
func readIDMap(file string) ([]specs.LinuxIDMapping, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var maps []specs.LinuxIDMapping
	for line := range strings.Lines(string(b)) {
		var m specs.LinuxIDMapping
		if _, err := fmt.Sscan(line, &m.ContainerID, &m.HostID, &m.Size); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", file, err)
		}
		maps = append(maps, m)
	}
	return maps, nil
}

// outside gives the numbers that a user and a group of the container have outside.
func (m idMaps) outside(uid, gid uint32) (hostUID, hostGID int, err error) {
	if hostUID, err = outside("uid", m.uid, uid); err != nil {
		return 0, 0, err
	}
	hostGID, err = outside("gid", m.gid, gid)
	return hostUID, hostGID, err
}

func outside(name string, mappings []specs.LinuxIDMapping, id uint32) (int, error) {
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
