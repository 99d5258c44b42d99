//go:build linux

package spawn

import (
	"strings"
	"sync"

	"github.com/moby/sys/capability"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fillCapabilities sets the five sets: those of the request, else of the container. Outside containers a request without keeps the agent's.
func fillCapabilities(req *nursery.Request, p *pb.Process, c *container.Container) error {
	in := p.Capabilities
	if in == nil && c != nil {
		in = ofContainer(c)
	}
	if in == nil {
		return nil
	}
	known := knownCapabilities()
	out := new(nursery.Capabilities)
	for _, set := range []struct {
		name  string
		names []string
		bits  *uint64
	}{
		{"bounding", in.Bounding, &out.Bounding},
		{"effective", in.Effective, &out.Effective},
		{"inheritable", in.Inheritable, &out.Inheritable},
		{"permitted", in.Permitted, &out.Permitted},
		{"ambient", in.Ambient, &out.Ambient},
	} {
		for _, name := range set.names {
			n, ok := known[name]
			if !ok {
				return failure.Field("process.capabilities."+set.name, "no such capability as %.64q", name)
			}
			*set.bits |= 1 << n
		}
	}
	req.Capabilities = out
	return nil
}

// knownCapabilities gives the number of each capability by its name.
var knownCapabilities = sync.OnceValue(func() map[string]uint {
	known := make(map[string]uint)
	for _, k := range capability.ListKnown() {
		known["CAP_"+strings.ToUpper(k.String())] = uint(k)
	}
	return known
})

func ofContainer(c *container.Container) *pb.Capabilities {
	s := c.Spec().Process.Capabilities
	if s == nil {
		return &pb.Capabilities{}
	}
	return &pb.Capabilities{Bounding: s.Bounding, Effective: s.Effective, Inheritable: s.Inheritable, Permitted: s.Permitted, Ambient: s.Ambient}
}
