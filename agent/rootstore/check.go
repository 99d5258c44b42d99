//go:build linux

package rootstore

import (
	"fmt"
	"path"
	"strings"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// check refuses what can be seen to be wrong without a look at the guest.
func check(req *pb.PrepareRootfs) error {
	if err := protocol.CheckID(req.Id); err != nil {
		return err
	}
	n := len(req.Layers)
	switch {
	case (req.Whole == nil) == (n == 0):
		return failure.Field("layers", "either they or a whole file system are needed")
	case req.Whole != nil && req.Upper != nil:
		return failure.Field("upper", "is for layers only")
	case req.Whole != nil:
		return checkFileSystem("whole", req.Whole)
	case n > protocol.MaxLayers:
		return failure.Field("layers", "%d, at most %d", n, protocol.MaxLayers)
	}
	for i, l := range req.Layers {
		if err := checkFileSystem(fmt.Sprintf("layers[%d]", i), l); err != nil {
			return err
		}
	}
	if disk := req.GetUpper().GetDisk(); disk != nil {
		return checkFileSystem("upper.disk", disk)
	}
	return nil
}

// checkFileSystem leaves type and options to package mount.
func checkFileSystem(field string, fs *pb.FileSystem) error {
	if !path.IsAbs(fs.Source) || strings.ContainsRune(fs.Source, 0) {
		return failure.Field(field+".source", "%.256q, must be an absolute path", fs.Source)
	}
	return nil
}
