//go:build linux

// Package rootfs looks at files in a container's root as the container sees them, without following a link out of it, openat2(2). What it opens is
// made by strangers: it opens regular files only, never blocks, and bounds what it reads.
package rootfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/rawfile"
)

// Dir is a directory that is the root of all lookups.
type Dir struct {
	f *os.File
}

// Open takes path as a root; it is resolved in the agent's own root. The caller closes it.
func Open(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &Dir{f: os.NewFile(uintptr(fd), path)}, nil
}

// OfProcess takes the root of the process behind file, a pidfd, whose pid is given. The caller closes it.
func OfProcess(pid int, file *os.File) (*Dir, error) {
	d, err := Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, err
	}
	if err := pidfd.Signal(file, 0); err != nil { // the pid may have been a stranger's when its root was opened
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// Sub takes a directory of d as a root. The caller closes it.
func (d *Dir) Sub(path string) (*Dir, error) {
	fd, err := d.openat(path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &Dir{f: os.NewFile(uintptr(fd), path)}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Stat follows links within the root. The error is an errno.
func (d *Dir) Stat(path string) (*unix.Stat_t, error) {
	fd, err := d.openat(path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	return &st, nil
}

// ReadFile reads a regular file of at most limit bytes. The error wraps an errno; EFBIG is a file over the limit, EINVAL one that is not regular.
func (d *Dir) ReadFile(path string, limit int64) ([]byte, error) {
	fd, err := d.openat(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EINVAL}
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(rawfile.File(fd), limit+1))
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	if n > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EFBIG}
	}
	return b.Bytes(), nil
}

// openat resolves path with d as its root. EAGAIN is a rename that raced with "..": a container could provoke it for ever, so tries are bounded.
func (d *Dir) openat(path string, flags uint64) (int, error) {
	const tries = 16
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	var err error
	for range tries {
		var fd int
		fd, err = unix.Openat2(int(d.f.Fd()), path, how)
		if err == nil {
			return fd, nil
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return -1, err
		}
	}
	return -1, err
}
