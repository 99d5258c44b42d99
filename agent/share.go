//go:build linux

package agent

import (
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// share is a namespace that a new container is to have together with the container owner.
type share struct {
	namespace specs.LinuxNamespaceType
	owner     *process.Process
}

// shares checks what a request says of them.
func (a *Agent) shares(spec *specs.Spec, asked []*pb.Share) ([]share, error) {
	if err := container.CheckShares(spec, asked); err != nil {
		return nil, err
	}
	var out []share
	for _, s := range asked {
		owner, err := a.container(s.Container)
		if err != nil {
			return nil, failure.Step(err, "share %s", s.Type)
		}
		out = append(out, share{specs.LinuxNamespaceType(s.Type), owner})
	}
	return out, nil
}

func sharedTypes(shares []share) (out []specs.LinuxNamespaceType) {
	for _, s := range shares {
		out = append(out, s.namespace)
	}
	return out
}

// shared holds namespaces open while a container that joins them is made: whatever becomes of their owners meanwhile, no pid of theirs is used that may have passed on to a stranger.
type shared []container.Share

func openShared(shares []share) (shared, error) {
	var out shared
	for _, s := range shares {
		opened, err := s.open()
		if err != nil {
			out.close()
			return nil, failure.Step(err, "share %s", s.namespace)
		}
		out = append(out, *opened)
	}
	return out, nil
}

func (s share) open() (*container.Share, error) {
	pid, init, err := s.owner.Task().(containerTask).Init()
	if err != nil {
		return nil, err
	}
	defer init.Close()
	return container.OpenShare(s.owner.ID(), pid, init, s.namespace)
}

func (s shared) close() {
	for _, n := range s {
		n.Close()
	}
}

// explainShared explains a creation that failed by the end of an owner where that is what happened meanwhile: a pid namespace takes no processes after its first.
func explainShared(shares []share, err error) error {
	opened, gone := openShared(shares)
	if errdefs.IsFailedPrecondition(gone) {
		return gone
	}
	opened.close()
	return err
}
