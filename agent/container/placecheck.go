//go:build linux

package container

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// CheckFiles refuses files that cannot be put into any container.
func CheckFiles(files []*pb.File) error {
	if len(files) > protocol.MaxFileCount {
		return failure.Field("container.files", "%d, at most %d", len(files), protocol.MaxFileCount)
	}
	total := 0
	seen := make(map[string]bool)
	for i, f := range files {
		total += len(f.Content)
		name := fmt.Sprintf("container.files[%d]", i)
		switch {
		case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" || strings.ContainsRune(f.Path, 0) || len(f.Path) >= unix.PathMax:
			return failure.Field(name+".path", "%.256q, must be an absolute, clean path other than /", f.Path)
		case seen[f.Path]:
			return failure.Field(name+".path", "%.256q is there twice", f.Path)
		case f.Mode > 0o777:
			return failure.Field(name+".mode", "%#o, only permissions are allowed", f.Mode)
		case len(f.Content) > protocol.MaxFile || total > protocol.MaxFiles:
			return failure.Field(name+".content", "%d bytes, and %d with those before; at most %d and %d", len(f.Content), total, protocol.MaxFile, protocol.MaxFiles)
		}
		seen[f.Path] = true
	}
	return nil
}
