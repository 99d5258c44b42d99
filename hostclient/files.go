package hostclient

import (
	"io/fs"
	"net/netip"
	"strings"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// ContainerFile is a file that the agent puts into a new container at Path, on top of what the root file system has there, which it does not change: such as /etc/hosts and /etc/resolv.conf,
// also where the root file system is read-only. The container may write to it, unless root.readonly of its spec is set. A link at Path is followed within the container's root. A Path that does not exist
// is made, in the root file system; where that can't be written to, the container is refused.
type ContainerFile struct {
	Path    string // absolute, in the container
	Content []byte // at most 64 KiB, 512 KiB in all files of a container
	Mode    fs.FileMode
	UID     uint32 // in the container
	GID     uint32
}

// NetworkFiles gives the files with which programs find names: /etc/hostname, /etc/hosts with the host name and localhost, and with name servers /etc/resolv.conf.
func NetworkFiles(hostname string, nameservers ...netip.Addr) []ContainerFile {
	files := []ContainerFile{
		{Path: "/etc/hostname", Content: []byte(hostname + "\n")},
		{Path: "/etc/hosts", Content: []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + hostname + "\n")},
	}
	if len(nameservers) == 0 {
		return files
	}
	var conf strings.Builder
	for _, addr := range nameservers {
		conf.WriteString("nameserver " + addr.String() + "\n")
	}
	return append(files, ContainerFile{Path: "/etc/resolv.conf", Content: []byte(conf.String())})
}

// fileMessages converts and checks files.
func fileMessages(files []ContainerFile) ([]*pb.File, error) {
	var out []*pb.File
	total := 0
	for _, f := range files {
		total += len(f.Content)
		switch {
		case f.Mode&^fs.ModePerm != 0:
			return nil, invalid("file %s: mode %v, only permissions are allowed", f.Path, f.Mode)
		case len(f.Content) > protocol.MaxFile || total > protocol.MaxFiles:
			return nil, invalid("file %s: %d bytes, and %d with those before; at most %d and %d are allowed", f.Path, len(f.Content), total, protocol.MaxFile, protocol.MaxFiles)
		}
		out = append(out, &pb.File{Path: f.Path, Content: f.Content, Mode: uint32(f.Mode), Uid: f.UID, Gid: f.GID})
	}
	return out, nil
}
