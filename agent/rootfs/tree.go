//go:build linux

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// CloneTmpfs gives a copy of the tmpfs mounted on path, without what is mounted beneath: a mount that is nowhere yet, open_tree(2), and that nothing propagates to. It is nil where no tmpfs is mounted.
// d is the root of a process, whose pidfd is init. ESRCH: that has ended. The caller closes the copy.
func (d *Dir) CloneTmpfs(path string, init *os.File) (*os.File, error) {
	at, err := d.Sub(path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer at.Close()
	if is, err := at.isTmpfs(); !is {
		return nil, err
	}
	return at.clone(init)
}

// isTmpfs says whether the directory is the root of a mount, and that of a tmpfs.
func (d *Dir) isTmpfs() (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(d.f.Fd()), &fs); err != nil {
		return false, fmt.Errorf("cannot look at the file system of %s: %w", d.f.Name(), err)
	}
	var st unix.Statx_t
	if err := unix.Statx(int(d.f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return false, fmt.Errorf("cannot look at %s: %w", d.f.Name(), err)
	}
	return fs.Type == unix.TMPFS_MAGIC && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// clone copies the mount, which the kernel allows in its own namespace only. The copy of a shared mount is a peer of it until that is undone; while it is nowhere, nothing propagates to it.
func (d *Dir) clone(init *os.File) (*os.File, error) {
	fd := -1
	if err := inMountsOf(init, func() (err error) {
		fd, err = unix.OpenTree(int(d.f.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		return err
	}); err != nil {
		return nil, fmt.Errorf("cannot copy the mount on %s: %w", d.f.Name(), err)
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot make the copy of the mount on %s private: %w", d.f.Name(), err)
	}
	return os.NewFile(uintptr(fd), d.f.Name()), nil
}

// inMountsOf calls f on a thread of its own in the mount namespace of a pidfd's process. The runtime ends the thread, as its goroutine ends without unlocking it: nothing else ever runs there.
// This never happens to the main thread, to which the agent's main goroutine is locked.
func inMountsOf(init *os.File, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS) // setns(2) moves no root that others have too
		if err == nil {
			err = unix.Setns(int(init.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}
