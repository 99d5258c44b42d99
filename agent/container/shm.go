//go:build linux

package container

import (
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
)

// shmDir is where POSIX shared memory is, shm_overview(7). To programs it belongs to the IPC namespace, though not to the kernel.
const shmDir = "/dev/shm"

// openShm gives a copy of the tmpfs on the /dev/shm of the process behind init, a pidfd, whose pid is given; nil if it has none. ESRCH: it has ended.
func openShm(pid int, init *os.File) (*os.File, error) {
	root, err := rootfs.OfProcess(pid, init)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.CloneTmpfs(shmDir, init)
}

// sharedShm gives the shared memory that the container joins; nil for one that shares no IPC namespace, or with a container that has no tmpfs there, or that has something else there itself.
func sharedShm(spec *specs.Spec, shares []Share) *os.File {
	for _, s := range shares {
		if s.shm == nil {
			continue
		}
		for i := range spec.Mounts {
			if isShm(&spec.Mounts[i]) {
				return s.shm
			}
		}
	}
	return nil
}

func isShm(m *specs.Mount) bool { return m.Type == "tmpfs" && path.Clean(m.Destination) == shmDir }

// restrictions are the options of a tmpfs by which its mount allows less.
var restrictions = map[string]uint64{
	"ro":     unix.MOUNT_ATTR_RDONLY,
	"nosuid": unix.MOUNT_ATTR_NOSUID,
	"nodev":  unix.MOUNT_ATTR_NODEV,
	"noexec": unix.MOUNT_ATTR_NOEXEC,
}

// joinShm puts another container's shared memory in the place of the spec's tmpfs. It is restricted as that is, and as the other's: the bind mount, without options of its own, keeps what
// the copy has. Size and mode are the other's.
func (p *Placed) joinShm(shm *os.File) error {
	at := filepath.Join(p.dir, "shm")
	if err := os.Mkdir(at, 0o711); err != nil {
		return failure.System(err)
	}
	var restricted uint64
	for i := range p.spec.Mounts {
		m := &p.spec.Mounts[i]
		if !isShm(m) {
			continue
		}
		for _, o := range m.Options {
			restricted |= restrictions[o]
		}
		m.Type, m.Source, m.Options = "bind", at, []string{"bind"}
	}
	if err := unix.MountSetattr(int(shm.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: restricted}); err != nil {
		return fmt.Errorf("cannot restrict the other container's %s: %w", shmDir, err)
	}
	if err := unix.MoveMount(int(shm.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount the other container's %s: %w", shmDir, err)
	}
	return nil
}
