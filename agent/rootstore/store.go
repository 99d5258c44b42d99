//go:build linux

// Package rootstore keeps the root file systems that a host has prepared for containers (SPEC 4.3). They belong to the guest: containers come and go on them.
//
// Each has a directory of its own beneath the store's, in which everything that it needs is mounted; its root is the directory "root" in it.
package rootstore

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Store holds the root file systems of a guest.
type Store struct {
	dir string
	log *slog.Logger

	mu    sync.Mutex
	roots map[string]*rootfs
}

// state is where in its life a root file system is.
type state int

const (
	preparing state = iota
	ready
	removing
	broken // it could not be taken apart; removing it can be tried again
)

// rootfs is one root file system. Its fields are under the store's lock, but for mounts, which belong to whoever made it preparing or removing.
type rootfs struct {
	id     string
	dir    string
	state  state
	users  int    // containers
	upper  fileID // where it writes
	mounts stack
}

func (r *rootfs) path() string { return filepath.Join(r.dir, "root") }

// New makes a store that mounts beneath dir, which is made when it is needed.
func New(dir string, log *slog.Logger) *Store {
	return &Store{dir: dir, log: log, roots: make(map[string]*rootfs)}
}

// Prepare makes a root file system and gives its path. If it fails, or the context ends, nothing is left.
func (s *Store) Prepare(ctx context.Context, req *pb.PrepareRootfs) (path string, err error) {
	if err := check(req); err != nil {
		return "", err
	}
	r, err := s.reserve(req.Id)
	if err != nil {
		return "", err
	}
	b := &builder{store: s, root: r}
	if err = b.build(ctx, req); err == nil {
		err = ctx.Err()
	}
	if err == nil {
		s.set(r, ready)
		return r.path(), nil
	}
	if uerr := r.mounts.undo(); uerr != nil {
		s.log.Error("cannot undo what was mounted for a root file system", "rootfs", r.id, "err", uerr)
		s.set(r, broken)
		return "", err
	}
	s.forget(r)
	return "", err
}

func (s *Store) reserve(id string) (*rootfs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.roots[id] != nil:
		return nil, failure.New(errdefs.ErrAlreadyExists, "root file system %s exists", id)
	case len(s.roots) >= protocol.MaxRootfs:
		return nil, failure.New(errdefs.ErrResourceExhausted, "%d root file systems exist, no more are allowed", protocol.MaxRootfs)
	}
	r := &rootfs{id: id, dir: filepath.Join(s.dir, id)}
	s.roots[id] = r
	return r, nil
}

func (s *Store) set(r *rootfs, to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.state = to
}

func (s *Store) forget(r *rootfs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.roots, r.id)
}

// Remove takes a root file system apart. What is in directories and on disks stays. FAILED_PRECONDITION: somebody uses it.
func (s *Store) Remove(id string) error {
	r, err := s.beginRemove(id)
	if err != nil {
		return err
	}
	if err := r.mounts.undo(); err != nil {
		s.set(r, broken)
		return err
	}
	s.forget(r)
	return nil
}

func (s *Store) beginRemove(id string) (*rootfs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.roots[id]
	switch {
	case r == nil:
		return nil, failure.New(errdefs.ErrNotFound, "root file system %s does not exist", id)
	case r.users > 0:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "containers use it: %d", r.users)
	case r.state == preparing, r.state == removing:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "it is being prepared or removed")
	}
	r.state = removing
	return r, nil
}

// Use keeps the root file system to which path belongs, if it does to any, from being removed until release is called.
func (s *Store) Use(path string) (release func(), err error) {
	real, rerr := filepath.EvalSymlinks(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(filepath.Clean(path))
	if r == nil && rerr == nil {
		r = s.at(real)
	}
	switch {
	case r == nil:
		return func() {}, nil
	case r.state != ready:
		return nil, failure.New(errdefs.ErrFailedPrecondition, "root file system %s is not ready", r.id)
	}
	r.users++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.users--
	}), nil
}

// at finds the root file system to whose directory path belongs; nil: none.
func (s *Store) at(path string) *rootfs {
	rest, ok := strings.CutPrefix(path, s.dir+"/")
	if !ok {
		return nil
	}
	id, _, _ := strings.Cut(rest, "/")
	return s.roots[id]
}

// List describes what is ready or broken, sorted by id.
func (s *Store) List() []*pb.RootfsInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var infos []*pb.RootfsInfo
	for _, r := range s.roots {
		if r.state != preparing {
			infos = append(infos, &pb.RootfsInfo{Id: r.id, Path: r.path(), Containers: uint32(r.users)})
		}
	}
	slices.SortFunc(infos, func(a, b *pb.RootfsInfo) int { return strings.Compare(a.Id, b.Id) })
	return infos
}

// claim makes the directory in which r writes its own: two overlays with one upper directory damage it.
func (s *Store) claim(r *rootfs, upper fileID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.roots {
		if other.upper == upper {
			return failure.New(errdefs.ErrFailedPrecondition, "root file system %s writes there", other.id)
		}
	}
	r.upper = upper
	return nil
}
