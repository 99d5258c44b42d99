//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Placed are files on their way into a container, and the shared memory of another that it joins. They lie in a tmpfs of their own, which is mounted in the guest's root only until the container has them:
// from then on its bind mounts keep the tmpfs, which goes with them. What a container writes to them is bounded by the size of the tmpfs.
type Placed struct {
	dir   string
	spec  *specs.Spec
	paths []placedPath
}

// placedPath is where a file goes: as the request has it, and with the links of the root file system followed.
type placedPath struct{ asked, target string }

// Place writes files that CheckFiles allows beneath dir, which it makes, and adds their mounts to the spec. It mounts the shared memory that goes with an IPC namespace there, too, and puts it into the
// spec in the place of a tmpfs on /dev/shm. Remove must follow when the container is made or has failed to be.
func Place(dir string, spec *specs.Spec, files []*pb.File, shares []Share) (*Placed, error) {
	p := &Placed{dir: dir, spec: spec}
	shm := sharedShm(spec, shares)
	if len(files) == 0 && shm == nil {
		return p, nil
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, failure.System(err)
	}
	const options = "mode=0711,size=1m,nr_inodes=128" // above what CheckFiles allows
	if err := unix.Mount("files", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot mount a place for files: %w", err), os.Remove(dir))
	}
	if shm != nil {
		if err := p.joinShm(shm); err != nil {
			return nil, errors.Join(err, p.Remove())
		}
	}
	if err := p.placeAll(files); err != nil {
		return nil, errors.Join(err, p.Remove())
	}
	return p, nil
}

func (p *Placed) placeAll(files []*pb.File) error {
	if len(files) == 0 {
		return nil
	}
	ids, err := idMapsOf(p.spec)
	if err != nil {
		return err
	}
	for i, f := range files {
		if err := p.place(i, f, ids); err != nil {
			return failure.Step(err, "file %s", f.Path)
		}
	}
	return nil
}

func (p *Placed) place(i int, f *pb.File, ids idMaps) error {
	name := filepath.Join(p.dir, fmt.Sprint(i))
	mode := os.FileMode(f.Mode)
	if mode == 0 {
		mode = 0o644
	}
	if err := os.WriteFile(name, f.Content, mode); err != nil {
		return failure.System(err)
	}
	uid, gid, err := ids.outside(f.Uid, f.Gid)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chown(name, uid, gid), os.Chmod(name, mode)); err != nil {
		return failure.System(err)
	}
	// A link that leads to where nothing is yet, as /etc/resolv.conf often does, is no place to mount on: the mount is made at its end. Whatever links say by then, the runtime mounts
	// within the container's root.
	full, err := securejoin.SecureJoin(p.spec.Root.Path, f.Path)
	if err != nil {
		return failure.System(err)
	}
	target := strings.TrimPrefix(full, path.Clean(p.spec.Root.Path))
	p.paths = append(p.paths, placedPath{asked: f.Path, target: target})
	mount := specs.Mount{Destination: target, Type: "bind", Source: name, Options: []string{"bind"}}
	if p.spec.Root.Readonly {
		mount.Options = append(mount.Options, "ro")
	}
	p.spec.Mounts = append(p.spec.Mounts, mount)
	return nil
}

// Remove takes the files out of the guest's root.
func (p *Placed) Remove() error {
	if _, err := os.Stat(p.dir); err != nil {
		return nil // there were none
	}
	return errors.Join(unix.Unmount(p.dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW), os.Remove(p.dir))
}

// Explain gives the error of a container that could not be made a better reason, if one of the files is it.
func (p *Placed) Explain(err error) error {
	if err == nil || len(p.paths) == 0 {
		return err
	}
	root, rerr := rootfs.Open(p.spec.Root.Path)
	if rerr != nil {
		return err
	}
	defer root.Close()
	for _, at := range p.paths {
		if p.hidden(at.target) {
			continue // by a mount of the spec, so what the root has there says nothing
		}
		st, serr := root.Stat(at.target)
		switch {
		case errors.Is(serr, syscall.ENOENT) && readOnly(p.spec.Root.Path):
			return failure.Step(failure.New(errdefs.ErrFailedPrecondition, "the root file system does not have it and is read-only"), "file %s", at.asked)
		case serr == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			return failure.Step(failure.New(errdefs.ErrFailedPrecondition, "the root file system has a directory there"), "file %s", at.asked)
		}
	}
	return err
}

func (p *Placed) hidden(target string) bool {
	for _, m := range p.spec.Mounts {
		if strings.HasPrefix(target, path.Clean(m.Destination)+"/") {
			return true
		}
	}
	return false
}

func readOnly(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
}
