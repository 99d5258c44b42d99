//go:build linux

package rootstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// builder makes a root file system. What it mounts is recorded in the stack of the root, for the caller to undo.
type builder struct {
	store *Store
	root  *rootfs
}

func (b *builder) build(ctx context.Context, req *pb.PrepareRootfs) error {
	// Anybody may pass: the first process of a container with a user namespace is nobody here.
	if err := os.MkdirAll(b.store.dir, 0o711); err != nil {
		return failure.System(err)
	}
	if err := b.root.mounts.mkdir(b.root.dir, 0o711); err != nil {
		return failure.System(err)
	}
	if req.Whole != nil {
		return b.mount(req.Whole, b.root.path())
	}
	return b.overlay(ctx, req.Layers, req.Upper)
}

// mount mounts a file system, or binds a directory, on a new directory.
func (b *builder) mount(fs *pb.FileSystem, target string, more ...string) error {
	m := &pb.Mount{Source: fs.Source, Target: target, Type: fs.Type, Options: append(slices.Clone(fs.Options), more...)}
	if fs.Type == "" {
		m.Type = "bind"
	}
	return b.root.mounts.mount(m)
}

// layer opens the root directory of a layer, which is mounted for it unless it is a directory anyway.
func (b *builder) layer(i int, fs *pb.FileSystem) (*os.File, error) {
	if fs.Type == "" && len(fs.Options) == 0 {
		return openDir(fs.Source)
	}
	target := filepath.Join(b.root.dir, fmt.Sprint("layer", i))
	if err := b.mount(fs, target, "ro"); err != nil {
		return nil, err
	}
	return openDir(target)
}
