//go:build linux

package rootstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// overlay mounts an overlay. It names its directories to the kernel by file descriptors, so neither their length nor what is in their names matters.
func (b *builder) overlay(ctx context.Context, layers []*pb.FileSystem, to *pb.Upper) error {
	var lower []*os.File // the lowest first
	defer func() { closeAll(lower) }()
	for i, l := range layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		dir, err := b.layer(i, l)
		if err != nil {
			return failure.Step(failure.System(err), "layer %d", i)
		}
		lower = append(lower, dir)
	}
	options := []string{
		// What a layer says of itself in extended attributes is not believed: it could lead into another.
		"redirect_dir=nofollow,metacopy=off,index=off",
	}
	if to != nil {
		upper, err := b.upper(to, lower[len(lower)-1])
		defer upper.close()
		if err != nil {
			return failure.Step(failure.System(err), "upper")
		}
		options = append(options, "upperdir="+fdPath(upper.upper), "workdir="+fdPath(upper.work))
	} else if len(lower) == 1 { // the kernel asks for two
		empty, err := b.emptyLayer()
		if err != nil {
			return err
		}
		lower = slices.Insert(lower, 0, empty)
	}
	return b.mountOverlay(lower, options)
}

// mountOverlay is given the lowest layer first; the kernel wants the topmost first.
func (b *builder) mountOverlay(lower []*os.File, options []string) error {
	var paths []string
	for _, dir := range slices.Backward(lower) {
		paths = append(paths, fdPath(dir))
	}
	options = append(options, "lowerdir="+strings.Join(paths, ":"))
	return b.root.mounts.mount(&pb.Mount{Source: "overlay", Target: b.root.path(), Type: "overlay", Options: options})
}

func (b *builder) emptyLayer() (*os.File, error) {
	path := filepath.Join(b.root.dir, "empty")
	if err := b.root.mounts.mkdir(path, 0o755); err != nil {
		return nil, failure.System(err)
	}
	return openDir(path)
}

func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func fdPath(f *os.File) string { return fmt.Sprint("/proc/self/fd/", f.Fd()) }

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
