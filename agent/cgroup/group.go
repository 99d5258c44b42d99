//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/rawfile"
)

// Group is one cgroup.
type Group struct {
	tree *Tree
	rel  string

	freezer sync.Mutex // held while cgroup.freeze is changed, and what depends on it done
}

// Rel gives the path relative to Mount, beginning with a slash.
func (g *Group) Rel() string { return g.rel }

// Path gives the group's directory.
func (g *Group) Path() string { return filepath.Join(Mount, g.rel) }

// Open opens the directory, to fork into. The caller closes it.
func (g *Group) Open() (*os.File, error) {
	fd, err := unix.Open(g.Path(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: g.Path(), Err: err}
	}
	return os.NewFile(uintptr(fd), g.Path()), nil
}

// OpenFor opens the directory to fork beside the process pid, which lives in the group or beneath. A group whose controllers are enabled for those beneath
// takes no processes (cgroups(7), "no internal processes"): then it is the group that pid is in.
func (g *Group) OpenFor(pid int) (*os.File, error) {
	b, err := g.read("cgroup.subtree_control")
	if err != nil || len(b) <= 1 {
		return g.Open()
	}
	rel, err := groupOf(pid)
	if err != nil {
		return nil, err
	}
	if !within(rel, g.rel) {
		return g.Open()
	}
	return (&Group{rel: rel}).Open()
}

// Kill sends SIGKILL to every process in the group and beneath, frozen ones too, leaving no gap for a fork. A group that is gone has none.
func (g *Group) Kill() error {
	err := g.write("cgroup.kill", "1")
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, serr := os.Stat(g.Path()); serr == nil {
		return fmt.Errorf("the kernel is older than Linux 5.14: %w", err)
	}
	return nil
}

// Empty says whether no process lives in the group or beneath.
func (g *Group) Empty() (bool, error) {
	populated, err := g.value("cgroup.events", "populated")
	if gone(err) {
		return true, nil
	}
	return populated == 0, err
}

// WaitEmpty waits until the group is empty.
func (g *Group) WaitEmpty(ctx context.Context) error {
	return g.await(ctx, g.Empty)
}

// OOMKills counts the processes in the group and beneath that the kernel killed for lack of memory. Without the memory controller it is 0.
func (g *Group) OOMKills() uint64 {
	n, err := g.value("memory.events", "oom_kill")
	if err != nil {
		return 0
	}
	return n
}

// Remove removes the group and what lies beneath, all of which must be empty.
func (g *Group) Remove() error {
	if err := removeAll(g.Path()); err != nil {
		return fmt.Errorf("cannot remove cgroup %s: %w", g.rel, err)
	}
	g.tree.release(g.rel)
	return nil
}

// removeAll removes a group's directory after those beneath it. The files in it go with it, and cannot be removed alone.
func removeAll(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	entries, lerr := os.ReadDir(dir)
	if lerr != nil {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

func (g *Group) file(name string) string { return filepath.Join(g.Path(), name) }

func (g *Group) write(name, value string) error {
	f, err := os.OpenFile(g.file(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// fileSize is above that of all files which are read here, in bytes: the kernel gives each in one read.
const fileSize = 4096

// read is os.ReadFile with a third of the system calls: an os.File of a cgroup goes into the runtime's poller, and it is read until its end.
func (g *Group) read(name string) ([]byte, error) {
	path := g.file(name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, fileSize)
	n, err := rawfile.File(fd).Read(b)
	if err != nil && err != io.EOF {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return b[:n], nil
}

// value reads one line "key number" of a flat keyed file.
func (g *Group) value(file, key string) (uint64, error) {
	b, err := g.read(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && k == key {
			return strconv.ParseUint(v, 10, 64)
		}
	}
	return 0, fmt.Errorf("cgroup %s: %s has no %s", g.rel, file, key)
}

// gone tells a group that does not exist any more: a file of one that was removed while open gives ENODEV.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }
