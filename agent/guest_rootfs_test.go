//go:build linux

package agent

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func prepareReq(id string, layers ...string) *pb.PrepareRootfs {
	p := &pb.PrepareRootfs{RequestId: make([]byte, 16), Id: id, Upper: &pb.Upper{Limit: 1 << 20}}
	_, _ = rand.Read(p.RequestId)
	for _, l := range layers {
		p.Layers = append(p.Layers, &pb.FileSystem{Source: l})
	}
	return p
}

// TestGuestRootfsOnce repeats the preparing and the removal of a root file system: each happens once.
func TestGuestRootfsOnce(t *testing.T) {
	g := newGuest(t)
	prepare := prepareReq("web", t.TempDir())
	request := &pb.Request{Op: &pb.Request_PrepareRootfs{PrepareRootfs: prepare}}
	path := g.must(request).GetRootfsPrepared().GetPath()
	write(t, filepath.Join(path, "kept"), "x", 0o644)
	if again := g.must(request).GetRootfsPrepared().GetPath(); again != path {
		t.Errorf("the repeat prepared %q; want %q", again, path)
	}
	if b, err := os.ReadFile(filepath.Join(path, "kept")); err != nil || string(b) != "x" {
		t.Errorf("after the repeat the file is %q, %v; want it kept", b, err)
	}
	other := &pb.PrepareRootfs{RequestId: prepare.RequestId, Id: "db", Layers: prepare.Layers}
	g.fails(&pb.Request{Op: &pb.Request_PrepareRootfs{PrepareRootfs: other}}, errdefs.ErrInvalidArgument)
	g.fails(&pb.Request{Op: &pb.Request_PrepareRootfs{PrepareRootfs: prepareReq("web", t.TempDir())}}, errdefs.ErrAlreadyExists)

	remove := &pb.Request{Op: &pb.Request_RemoveRootfs{RemoveRootfs: &pb.RemoveRootfs{RequestId: prepareReq("").RequestId, Id: "web"}}}
	g.must(remove)
	g.must(remove)
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("Stat(%s) = %v; want that it is gone", filepath.Dir(path), err)
	}
	if list := g.must(&pb.Request{Op: &pb.Request_ListRootfs{ListRootfs: &pb.ListRootfs{}}}).GetRootfsListed().GetRootfs(); len(list) != 0 {
		t.Errorf("listed %v; want nothing", list)
	}
	g.must(request) // its result went with the root file system
	g.must(&pb.Request{Op: &pb.Request_RemoveRootfs{RemoveRootfs: &pb.RemoveRootfs{RequestId: prepareReq("").RequestId, Id: "web"}}})
}

// TestGuestRootfsList lists more root file systems than one answer holds.
func TestGuestRootfsList(t *testing.T) {
	g := newGuest(t)
	layer := t.TempDir()
	const n = rootfsPart + 1
	for i := range n {
		whole := &pb.PrepareRootfs{RequestId: prepareReq("").RequestId, Id: fmt.Sprint("r", i), Whole: &pb.FileSystem{Source: layer}}
		g.must(&pb.Request{Op: &pb.Request_PrepareRootfs{PrepareRootfs: whole}})
	}
	list := g.begin(&pb.Request{Op: &pb.Request_ListRootfs{ListRootfs: &pb.ListRootfs{}}})
	seen := len(list.progress().GetRootfsListed().GetRootfs())
	last, err := list.result()
	if seen += len(last.GetRootfsListed().GetRootfs()); err != nil || seen != n {
		t.Errorf("listed %d, %v; want %d", seen, err, n)
	}
	for i := range n {
		g.must(&pb.Request{Op: &pb.Request_RemoveRootfs{RemoveRootfs: &pb.RemoveRootfs{RequestId: prepareReq("").RequestId, Id: fmt.Sprint("r", i)}}})
	}
}
