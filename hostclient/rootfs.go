package hostclient

import (
	"context"
	"fmt"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Rootfs describes a root file system for containers: either Whole or Layers is set.
type Rootfs struct {
	// ID names the root file system in the guest, as a process's id does a process. Empty: one is made up.
	ID string

	// Whole is used as it is, and written to unless its options say "ro".
	Whole *FileSystem

	// Layers are laid over each other, at most 128, the lowest first, as an OCI image lists its own. They are never written to, and several root file systems may share them.
	Layers []FileSystem

	// Upper takes what containers write to the layers. Without it the root file system is read-only; mount points that a container's spec needs must then be in the layers.
	Upper *Upper
}

// FileSystem is a directory of the guest, or with a Type what is on a block device or in an image in a file. The guest's kernel needs that type: ext4, and erofs and
// squashfs where the initramfs has the modules, as package initramfs provides for.
type FileSystem struct {
	Source  string   // absolute path in the guest
	Type    string   // of the file system; empty: Source is a directory
	Options []string // as in [Mount]
}

// Upper is where an overlay of layers is written to.
type Upper struct {
	// Disk keeps what is written, in its directories "upper" and "work", which are made if they are missing. Preparing a root file system with it again, in
	// another life of the guest too, goes on from there. Nil: the guest's memory, which is given back by [PreparedRootfs.Remove].
	Disk *FileSystem

	// Limit bounds the bytes written; what goes beyond fails with ENOSPC, on a disk with EDQUOT. 0 is half of the guest's memory, or all of the disk. On a disk it needs project quotas (ext4:
	// mke2fs -O quota,project -E quotatype=prjquota) and, the first time, an empty Disk; where it would not hold it is refused with errdefs.ErrFailedPrecondition.
	Limit int64
}

// PreparedRootfs is a root file system in the guest. It lives until Remove or the end of the guest, whatever becomes of this client, and serves any number of containers, one after the other
// or at once: a container that is to be restarted with the files that it left is a new one with the same Path.
type PreparedRootfs struct {
	ID         string
	Path       string // for root.path of a spec, as in [DefaultSpec]
	Containers int    // that used it when it was listed

	client *Client
}

// PrepareRootfs makes a root file system in the guest. After an error nothing of it is left there.
func (c *Client) PrepareRootfs(ctx context.Context, r Rootfs) (*PreparedRootfs, error) {
	if r.ID == "" {
		r.ID = madeUpID()
	}
	what := "prepare root file system " + r.ID
	req, err := r.request()
	if err != nil {
		return nil, operationError(what, err)
	}
	var prepared *pb.RootfsPrepared
	err = c.call(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_PrepareRootfs{PrepareRootfs: req}},
		repeat:  true,
		result:  expect((*pb.Response).GetRootfsPrepared, &prepared),
	})
	if err != nil {
		return nil, err
	}
	return &PreparedRootfs{ID: r.ID, Path: prepared.Path, client: c}, nil
}

// ListRootfs describes the root file systems in the guest.
func (c *Client) ListRootfs(ctx context.Context) ([]*PreparedRootfs, error) {
	var all []*PreparedRootfs
	part := func(r *pb.Response) error {
		listed := r.GetRootfsListed()
		if listed == nil {
			return errUnexpected
		}
		if len(all)+len(listed.Rootfs) > protocol.MaxRootfs {
			return fmt.Errorf("%w: more than %d root file systems", protocol.ErrProtocol, protocol.MaxRootfs)
		}
		for _, r := range listed.Rootfs {
			all = append(all, &PreparedRootfs{ID: r.GetId(), Path: r.GetPath(), Containers: int(r.GetContainers()), client: c})
		}
		return nil
	}
	err := c.call(ctx, operation{
		what:     "list root file systems",
		request:  &pb.Request{Op: &pb.Request_ListRootfs{ListRootfs: &pb.ListRootfs{}}},
		repeat:   true,
		sending:  func() { all = nil }, // an answer that is repeated begins anew
		progress: part,
		result:   part,
	})
	return all, err
}

// Remove takes the root file system apart. What is in directories and on disks stays there. While a container uses it, the error wraps errdefs.ErrFailedPrecondition.
func (r *PreparedRootfs) Remove(ctx context.Context) error {
	requestID := newID()
	return r.client.call(ctx, operation{
		what:    "remove root file system " + r.ID,
		request: &pb.Request{Op: &pb.Request_RemoveRootfs{RemoveRootfs: &pb.RemoveRootfs{RequestId: requestID[:], Id: r.ID}}},
		repeat:  true,
		result:  expect((*pb.Response).GetRootfsRemoved, nil),
	})
}

func (r *Rootfs) request() (*pb.PrepareRootfs, error) {
	requestID := newID()
	req := &pb.PrepareRootfs{RequestId: requestID[:], Id: r.ID, Whole: r.Whole.message()}
	for _, l := range r.Layers {
		req.Layers = append(req.Layers, l.message())
	}
	if u := r.Upper; u != nil {
		if u.Limit < 0 {
			return nil, invalid("limit of %d bytes", u.Limit)
		}
		req.Upper = &pb.Upper{Disk: u.Disk.message(), Limit: uint64(u.Limit)}
	}
	return req, nil
}

func (fs *FileSystem) message() *pb.FileSystem {
	if fs == nil {
		return nil
	}
	return &pb.FileSystem{Source: fs.Source, Type: fs.Type, Options: fs.Options}
}
