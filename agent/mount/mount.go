//go:build linux

// Package mount mounts file systems in the guest itself, mount(2), with options as mount(8) writes them: disks and shared directories on which
// containers' roots lie.
package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// perMount are the flags that a bind mount gets only by a remount.
const perMount = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME |
	unix.MS_RELATIME | unix.MS_STRICTATIME | unix.MS_NOSYMFOLLOW

// Mount mounts. A target that is missing is made. If it fails, nothing is left mounted, and the error names source and file system.
func Mount(m *pb.Mount) error {
	opt, err := check(m)
	if err != nil {
		return err
	}
	made, err := makeTarget(m, opt)
	if err == nil {
		err = mount(m, opt)
	}
	if err != nil && made {
		_ = os.Remove(m.Target)
	}
	return failure.Step(failure.System(err), "mount %s (%s) on %s", orNone(m.Source), fsName(m, opt), m.Target)
}

func check(m *pb.Mount) (*options, error) {
	if err := checkTarget(m.Target); err != nil {
		return nil, err
	}
	for _, f := range []struct{ name, value string }{{"source", m.Source}, {"type", m.Type}} {
		if strings.ContainsRune(f.value, 0) {
			return nil, failure.Field(f.name, "contains a NUL byte")
		}
	}
	opt, err := parseOptions(m.Options)
	if err != nil {
		return nil, err
	}
	if m.Type == "bind" {
		opt.flags |= unix.MS_BIND
	}
	switch {
	case opt.flags&unix.MS_BIND != 0 && opt.data != "":
		return nil, failure.Field("options", "%.256q: a bind mount takes no options of a file system", opt.data)
	case opt.flags&unix.MS_BIND != 0 && !filepath.IsAbs(m.Source):
		return nil, failure.Field("source", "%.256q, must be an absolute path to bind", m.Source)
	case opt.flags&(unix.MS_BIND|unix.MS_REMOUNT) == 0 && m.Type == "":
		return nil, failure.Field("type", "missing")
	}
	return opt, nil
}

func checkTarget(target string) error {
	switch {
	case strings.ContainsRune(target, 0):
		return failure.Field("target", "contains a NUL byte")
	case !filepath.IsAbs(target) || filepath.Clean(target) != target || target == "/":
		return failure.Field("target", "%.256q, must be an absolute, clean path other than /", target)
	}
	return nil
}

// makeTarget makes a missing target: a directory, or an empty file to bind a file on.
func makeTarget(m *pb.Mount, opt *options) (made bool, _ error) {
	if _, err := os.Stat(m.Target); !errors.Is(err, os.ErrNotExist) || opt.flags&unix.MS_REMOUNT != 0 {
		return false, err
	}
	if opt.flags&unix.MS_BIND != 0 {
		st, err := os.Stat(m.Source)
		if err != nil {
			return false, err
		}
		if !st.IsDir() {
			return true, makeFile(m.Target)
		}
	}
	return true, os.MkdirAll(m.Target, 0o755)
}

func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func mount(m *pb.Mount, opt *options) error {
	flags := opt.flags
	bind := flags&unix.MS_BIND != 0 && flags&unix.MS_REMOUNT == 0
	if bind {
		flags &= unix.MS_BIND | unix.MS_REC
	}
	if err := mountSource(m.Source, m.Target, m.Type, flags, opt.data); err != nil {
		return err
	}
	if err := finish(m.Target, opt, bind); err != nil {
		if opt.flags&unix.MS_REMOUNT == 0 {
			err = errors.Join(err, unix.Unmount(m.Target, unix.MNT_DETACH))
		}
		return err
	}
	return nil
}

// finish does what the mount call itself cannot: the flags of a bind mount, and propagation.
func finish(target string, opt *options, bind bool) error {
	if own := opt.flags & perMount; bind && own != 0 {
		if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|own, ""); err != nil {
			return err
		}
	}
	for _, p := range opt.propagation {
		if err := unix.Mount("", target, "", p, ""); err != nil {
			return err
		}
	}
	return nil
}

// Unmount takes the topmost mount on target away. NOT_FOUND: nothing is mounted there; FAILED_PRECONDITION: it is in use.
func Unmount(target string) error {
	if err := checkTarget(target); err != nil {
		return err
	}
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) {
		err = failure.Errno(errdefs.ErrNotFound, syscall.EINVAL)
		err = failure.Step(err, "nothing is mounted there")
	} else {
		err = failure.System(err)
	}
	return failure.Step(err, "unmount %s", target)
}

func fsName(m *pb.Mount, opt *options) string {
	if opt.flags&unix.MS_BIND != 0 {
		return "bind"
	}
	return orNone(m.Type)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
