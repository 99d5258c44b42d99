//go:build linux && cgo

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// need says what it means for the guest when a file system cannot be mounted.
type need int

const (
	required  need = iota // nothing works without it: the boot fails
	wanted                // something works less well: a warning
	ifPresent             // a kernel without it is an ordinary kernel
)

// mount is one row of the table of file systems.
type mount struct {
	fstype string
	target string
	magic  int64 // f_type of statfs(2)
	flags  uintptr
	data   string
	need   need
}

const (
	noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	noDev  = unix.MS_NOSUID | unix.MS_NODEV
)

// mounts is the table of file systems, parents before what lies in them.
func mounts() []mount {
	return []mount{
		{"proc", "/proc", unix.PROC_SUPER_MAGIC, noExec, "", required},
		{"sysfs", "/sys", unix.SYSFS_MAGIC, noExec, "", required},
		{"devtmpfs", "/dev", unix.TMPFS_MAGIC, unix.MS_NOSUID, "mode=0755", required},
		{"devpts", "/dev/pts", unix.DEVPTS_SUPER_MAGIC, unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,gid=5,mode=0620,ptmxmode=0666", wanted},
		{"tmpfs", "/dev/shm", unix.TMPFS_MAGIC, noDev, "mode=1777", wanted},
		{"mqueue", "/dev/mqueue", mqueueMagic, noExec, "", ifPresent},
		{"tmpfs", "/run", unix.TMPFS_MAGIC, noDev, "mode=0755", required},
		{"tmpfs", "/tmp", unix.TMPFS_MAGIC, noDev, "mode=1777", wanted},
		// Without nsdelegate: with it, cloning a process into a container's
		// cgroup from outside its cgroup namespace fails with ENOENT.
		{"cgroup2", "/sys/fs/cgroup", unix.CGROUP2_SUPER_MAGIC, noExec, "", wanted},
		{"securityfs", "/sys/kernel/security", unix.SECURITYFS_MAGIC, noExec, "", ifPresent},
		{"bpf", "/sys/fs/bpf", unix.BPF_FS_MAGIC, noExec, "mode=0700", ifPresent},
		{"tracefs", "/sys/kernel/tracing", unix.TRACEFS_MAGIC, noExec, "mode=0700", ifPresent},
	}
}

const mqueueMagic = 0x19800202 // MQUEUE_MAGIC of ipc/mqueue.c

// mountAll mounts what the table says beneath root, except what is there
// already. It stops at a required file system that it cannot mount and calls
// warn for a wanted one.
func mountAll(root string, table []mount, warn func(error)) error {
	for _, m := range table {
		err := m.mount(root)
		switch {
		case err == nil:
		case m.need == required:
			return err
		case m.need == ifPresent && isAbsent(err):
		default:
			warn(err)
		}
	}
	return nil
}

// isAbsent is true when the kernel does not know the file system, or a parent
// such as sysfs offers no place for it.
func isAbsent(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}

// mount makes m's target and mounts on it, unless what is wanted is there: an
// earlier init may have run, and kernels differ in what they mount themselves.
func (m mount) mount(root string) error {
	target := filepath.Join(root, m.target)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("cannot make the mount point of %s: %w", m.fstype, err)
	}
	if there, err := m.isThere(target); err != nil {
		return err
	} else if there {
		return nil
	}
	if err := unix.Mount(m.fstype, target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", m.fstype, target, err)
	}
	return nil
}

// isThere is true when m's file system is mounted on target itself. A tmpfs is
// there when anything is mounted: it could hold what somebody needs.
func (m mount) isThere(target string) (bool, error) {
	mounted, err := isMountPoint(target)
	if err != nil || !mounted {
		return false, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(target, &fs); err != nil {
		return false, fmt.Errorf("cannot tell what is mounted on %s: %w", target, err)
	}
	return m.fstype == "tmpfs" || int64(fs.Type) == m.magic, nil
}

// isMountPoint uses statx(2) since neither the device number (of a bind mount)
// nor /proc (not mounted yet) can tell.
func isMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		return false, fmt.Errorf("cannot stat %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// link is a symbolic link of the table.
type link struct {
	path, target string
}

// links is the table of links in /dev that programs expect and the kernel does
// not make.
func links() []link {
	return []link{
		{"/dev/fd", "/proc/self/fd"},
		{"/dev/stdin", "/proc/self/fd/0"},
		{"/dev/stdout", "/proc/self/fd/1"},
		{"/dev/stderr", "/proc/self/fd/2"},
		{"/dev/core", "/proc/kcore"},
	}
}

// linkAll makes the links that do not exist beneath root.
func linkAll(root string, table []link, warn func(error)) {
	for _, l := range table {
		err := os.Symlink(l.target, filepath.Join(root, l.path))
		if err != nil && !errors.Is(err, os.ErrExist) {
			warn(fmt.Errorf("cannot make a link: %w", err))
		}
	}
}
