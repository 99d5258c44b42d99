//go:build linux

package rootstore

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

// TestUse takes root file systems by the paths that specs may have. What is mounted is for the tests in machines.
func TestUse(t *testing.T) {
	dir := t.TempDir()
	s := New(dir, slog.New(slog.DiscardHandler))
	for id, st := range map[string]state{"web": ready, "half": preparing, "bad": broken} {
		r, err := s.reserve(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(r.path(), 0o755); err != nil {
			t.Fatal(err)
		}
		s.set(r, st)
	}
	if _, err := s.reserve("web"); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("reserve() of an id that exists = %v; want errdefs.ErrAlreadyExists", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(dir, "web"), link); err != nil {
		t.Fatal(err)
	}
	for path, counts := range map[string]bool{
		dir + "/web/root": true, dir + "/web/../web/root/sub": true, link + "/root": true,
		dir + "/other": false, dir: false, dir + "x/web": false, "/": false,
	} {
		release, err := s.Use(path)
		if err != nil {
			t.Errorf("Use(%s) = %v; want no error", path, err)
			continue
		}
		if _, err := s.beginRemove("web"); errors.Is(err, errdefs.ErrFailedPrecondition) != counts {
			t.Errorf("removing while %s is in use = %v; want it refused: %v", path, err, counts)
		}
		release()
		release() // the second does nothing
		s.set(s.roots["web"], ready)
		if n := s.roots["web"].users; n != 0 {
			t.Fatalf("%d users after release of %s; want none", n, path)
		}
	}
	for _, id := range []string{"half", "bad"} {
		if _, err := s.Use(filepath.Join(dir, id, "root")); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Use(%s) = %v; want errdefs.ErrFailedPrecondition", id, err)
		}
	}
	if _, err := s.beginRemove("half"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("removing what is being prepared = %v; want errdefs.ErrFailedPrecondition", err)
	}
}
