//go:build linux

package rootstore

import (
	"errors"
	"io/fs"
	"os"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/mount"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// stack is what was done in the guest's root, to be undone in the opposite order: directories that were made, and what is mounted on them.
type stack struct {
	done []entry
}

type entry struct {
	path    string
	mounted bool
}

// mkdir makes a directory that was not there before.
func (s *stack) mkdir(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	s.done = append(s.done, entry{path: path})
	return nil
}

// mount mounts on a directory that it makes.
func (s *stack) mount(m *pb.Mount) error {
	if err := s.mkdir(m.Target, 0o755); err != nil {
		return failure.System(err)
	}
	if err := mount.Mount(m); err != nil {
		return err
	}
	s.done[len(s.done)-1].mounted = true
	return nil
}

// undo undoes everything, or as much as can be before what cannot. It never removes what is in a directory, so it cannot reach into one that is mounted.
func (s *stack) undo() error {
	for len(s.done) > 0 {
		last := &s.done[len(s.done)-1]
		if last.mounted {
			if err := mount.Unmount(last.path); err != nil {
				return err
			}
			last.mounted = false
		}
		if err := os.Remove(last.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.done = s.done[:len(s.done)-1]
	}
	return nil
}
