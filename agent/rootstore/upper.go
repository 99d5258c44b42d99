//go:build linux

package rootstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fileID tells files apart.
type fileID struct{ dev, ino uint64 }

// upperDirs are the two directories that an overlay writes to.
type upperDirs struct {
	upper, work *os.File
}

func (u *upperDirs) close() {
	if u.upper != nil {
		_ = u.upper.Close()
	}
	if u.work != nil {
		_ = u.work.Close()
	}
}

// upper prepares the directories in which the overlay writes, with their limit. top is the topmost layer. What the result has is the caller's to close, after an error too.
func (b *builder) upper(u *pb.Upper, top *os.File) (upperDirs, error) {
	base, err := b.upperBase(u)
	if err != nil {
		return upperDirs{}, err
	}
	defer base.Close()
	if u.GetDisk() != nil {
		if err := limit(base, u.Limit); err != nil {
			return upperDirs{}, err
		}
	}
	return b.makeUpper(base, top)
}

// upperBase opens the directory that has upper and work in it.
func (b *builder) upperBase(u *pb.Upper) (*os.File, error) {
	path := filepath.Join(b.root.dir, "upper")
	disk := u.GetDisk()
	switch {
	case disk == nil:
		if err := b.mount(&pb.FileSystem{Source: "upper", Type: "tmpfs", Options: memoryOptions(u.Limit)}, path); err != nil {
			return nil, err
		}
	case disk.Type == "" && len(disk.Options) == 0:
		path = disk.Source
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
	default:
		if err := b.mount(disk, path); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

// memoryOptions are those of a tmpfs. Empty files take memory too, and are not part of its size.
func memoryOptions(limit uint64) []string {
	if limit == 0 {
		return []string{"mode=0700"}
	}
	return []string{"mode=0700", fmt.Sprintf("size=%d,nr_inodes=%d", limit, inodesOf(limit))}
}

// inodesOf is how many files may be made in so many bytes: one for each 4 KiB, and enough for the directories of a system.
func inodesOf(limit uint64) uint64 { return max(limit/4096, 1024) }

func (b *builder) makeUpper(base, top *os.File) (dirs upperDirs, err error) {
	var made bool
	if dirs.upper, made, err = subdirectory(base, "upper"); err != nil {
		return dirs, err
	}
	if dirs.work, _, err = subdirectory(base, "work"); err != nil {
		return dirs, err
	}
	if made {
		if err := copyOwner(dirs.upper, top); err != nil {
			return dirs, err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dirs.upper.Fd()), &st); err != nil {
		return dirs, err
	}
	return dirs, b.store.claim(b.root, fileID{st.Dev, st.Ino})
}

// subdirectory opens a directory in dir, which must not be a link, and makes it if it is missing.
func subdirectory(dir *os.File, name string) (f *os.File, made bool, err error) {
	err = unix.Mkdirat(int(dir.Fd()), name, 0o755)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, false, &os.PathError{Op: "mkdir", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	made = err == nil
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, made, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), made, nil
}

// copyOwner gives the root of the overlay, which is the new upper directory, the owner and mode that the topmost layer's has.
func copyOwner(dir, from *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	if err := dir.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return failure.System(unix.Fchmod(int(dir.Fd()), st.Mode&0o7777))
}
