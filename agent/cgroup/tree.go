//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// Mount is where the unified hierarchy is mounted.
const Mount = "/sys/fs/cgroup"

// Tree is the part of the hierarchy beneath which groups are made. No group of it lies in another, so that killing and removing one never touches another's processes.
type Tree struct {
	root     string // relative to Mount, clean, beginning with a slash
	notifier *notifier

	mu   sync.Mutex
	used map[string]struct{} // paths relative to Mount
}

// NewTree takes the root relative to Mount, as in /proc/PID/cgroup: "/bellhop". Close must follow.
func NewTree(root string) (*Tree, error) {
	n, err := newNotifier()
	if err != nil {
		return nil, err
	}
	return &Tree{root: filepath.Clean("/" + root), notifier: n, used: make(map[string]struct{})}, nil
}

// Path gives the directory beneath which groups are made.
func (t *Tree) Path() string { return filepath.Join(Mount, t.root) }

// Close ends the tree's watches. Its groups stay as they are, and must not be used any more.
func (t *Tree) Close() error { return t.notifier.close() }

// Make makes a group, whose name may have several elements. It must not exist with processes in it, and not lie in another group or around one. The owner
// calls Remove.
func (t *Tree) Make(name string) (*Group, error) {
	rel := filepath.Join(t.root, filepath.Clean("/"+name))
	if rel == t.root {
		return nil, failure.New(errdefs.ErrInvalidArgument, "cgroup path %q names no group beneath %s", name, t.root)
	}
	if err := t.claim(rel); err != nil {
		return nil, err
	}
	g := &Group{tree: t, rel: rel}
	if err := g.make(); err != nil {
		t.release(rel)
		return nil, fmt.Errorf("cannot make cgroup %s: %w", rel, err)
	}
	return g, nil
}

func (t *Tree) claim(rel string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.used {
		if within(rel, other) || within(other, rel) {
			return failure.New(errdefs.ErrAlreadyExists, "cgroup %s is in use as %s", rel, other)
		}
	}
	t.used[rel] = struct{}{}
	return nil
}

func (t *Tree) release(rel string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.used, rel)
}

// within says whether path is dir or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// make creates the group's directory. What an earlier life of the agent left empty is taken over.
func (g *Group) make() error {
	if err := os.MkdirAll(filepath.Dir(g.Path()), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(g.Path(), 0o755)
	if errors.Is(err, fs.ErrExist) {
		if err = removeAll(g.Path()); err == nil {
			err = os.Mkdir(g.Path(), 0o755)
		}
	}
	return err
}
