//go:build linux

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestClaim(t *testing.T) {
	tree, err := NewTree("bellhop/")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if tree.root != "/bellhop" {
		t.Errorf("root = %q; want /bellhop", tree.root)
	}
	if err := tree.claim("/bellhop/pod/a"); err != nil {
		t.Fatal(err)
	}
	for rel, want := range map[string]error{
		"/bellhop/pod/a":   errdefs.ErrAlreadyExists,
		"/bellhop/pod/a/x": errdefs.ErrAlreadyExists,
		"/bellhop/pod":     errdefs.ErrAlreadyExists,
		"/bellhop/pod/ab":  nil,
		"/bellhop/b":       nil,
	} {
		if err := tree.claim(rel); !errors.Is(err, want) {
			t.Errorf("claim(%s) = %v; want %v", rel, err, want)
		}
	}
	tree.release("/bellhop/pod/a")
	if err := tree.claim("/bellhop/pod/a"); err != nil {
		t.Errorf("claim() after release = %v", err)
	}
	for _, name := range []string{"", "/", "..", "../..", "a/../.."} {
		if _, err := tree.Make(name); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Make(%q) = %v; want invalid argument", name, err)
		}
	}
}

// TestNotifier watches ordinary files: inotify tells the same of them.
func TestNotifier(t *testing.T) {
	n, err := newNotifier()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	change := func() {
		t.Helper()
		if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	change()
	a, err := n.add(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.add(file)
	if err != nil {
		t.Fatal(err)
	}
	woken := func(w *watch) bool {
		select {
		case <-w.c:
			return true
		case <-time.After(10 * time.Second):
			return false
		}
	}
	change()
	if !woken(a) || !woken(b) {
		t.Error("a watcher was not told of a change")
	}
	a.close()
	a.close() // harmless
	for len(b.c) > 0 {
		<-b.c
	}
	change()
	if !woken(b) {
		t.Error("the other watcher was not told after one had left")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	b.close()
	if _, err := n.add(file); err == nil {
		t.Error("add() of a missing file = nil; want an error")
	}
	if err := n.close(); err != nil {
		t.Errorf("close() = %v", err)
	}
	if len(n.watchers) != 0 {
		t.Errorf("watchers are left: %v", n.watchers)
	}
}

func FuzzDispatch(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := &notifier{watchers: make(map[int32]map[*watch]struct{})}
		n.dispatch(b)
	})
}
