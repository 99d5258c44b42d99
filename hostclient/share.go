package hostclient

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Share is a namespace that a new container has together with one that exists, in the place of what its spec says of that type; with a UTS namespace it also takes over the host name, with
// an IPC namespace the tmpfs on /dev/shm, if both containers have one there. Namespaces of network, IPC, UTS, PID, user and time can be shared.
//
// The two containers need not end together, but for a PID namespace: with its first process all others in it are killed.
type Share struct {
	Type      specs.LinuxNamespaceType
	Container string // id of the container whose it is
}

// Share puts the new container into namespaces of another one, which must live when this one is started. See the type [Share].
func (k *Container) Share(with *Container, types ...specs.LinuxNamespaceType) {
	for _, t := range types {
		k.share = append(k.share, Share{Type: t, Container: with.id})
	}
}

// withoutShared gives a copy of the spec that leaves the shared namespaces, and what belongs to them, to others.
func withoutShared(spec *specs.Spec, shares []Share) *specs.Spec {
	if len(shares) == 0 {
		return spec
	}
	var types []specs.LinuxNamespaceType
	for _, s := range shares {
		types = append(types, s.Type)
	}
	out := *spec
	if slices.Contains(types, specs.UTSNamespace) {
		out.Hostname, out.Domainname = "", ""
	}
	if spec.Linux == nil {
		return &out
	}
	linux := *spec.Linux
	linux.Namespaces = slices.DeleteFunc(slices.Clone(linux.Namespaces), func(ns specs.LinuxNamespace) bool {
		return slices.Contains(types, ns.Type)
	})
	if slices.Contains(types, specs.UserNamespace) {
		linux.UIDMappings, linux.GIDMappings = nil, nil
	}
	if slices.Contains(types, specs.TimeNamespace) {
		linux.TimeOffsets = nil
	}
	out.Linux = &linux
	return &out
}

func shareMessages(shares []Share) []*pb.Share {
	var out []*pb.Share
	for _, s := range shares {
		out = append(out, &pb.Share{Type: string(s.Type), Container: s.Container})
	}
	return out
}

func checkShares(cfg *ProcessConfig) error {
	if len(cfg.Share) > 0 && cfg.Spec == nil {
		return invalid("only a new container can share namespaces")
	}
	for _, s := range cfg.Share {
		if err := protocol.CheckID(s.Container); err != nil {
			return err
		}
	}
	return nil
}
