//go:build linux

package container

import (
	"encoding/json"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/initfilter"
	"github.com/bellhop-vm/bellhop/agent/seccomp"
)

// maxProfiles bounds how many profiles are kept. Most guests have one or two.
const maxProfiles = 8

// Profiles keeps seccomp profiles, decoded and compiled: most containers of a guest have the same, which is the longest part of their spec. The zero value keeps none yet.
type Profiles struct {
	mu   sync.Mutex
	kept map[string]*profile // by their JSON; at most maxProfiles
}

// profile is one of them.
type profile struct {
	spec    *specs.LinuxSeccomp // shared by the specs that have it: nobody may change it
	compile func() (filter, error)
}

// filter is what a profile compiles to.
type filter struct {
	seccomp.Filter
	suits bool // see initfilter.Suits
}

// decode gives the profile of a spec; nil for none.
func (p *Profiles) decode(text json.RawMessage) (*specs.LinuxSeccomp, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.kept[string(text)]; ok {
		return known.spec, nil
	}
	spec := new(specs.LinuxSeccomp)
	if err := decodeStrictly(text, "linux.seccomp", spec); err != nil {
		return nil, err
	}
	if p.kept == nil || len(p.kept) >= maxProfiles {
		p.kept = make(map[string]*profile)
	}
	p.kept[string(text)] = &profile{spec: spec, compile: sync.OnceValues(func() (filter, error) { return compile(spec) })}
	return spec, nil
}

// filter gives the filter of a profile that decode gave, none for nil.
func (p *Profiles) filter(spec *specs.LinuxSeccomp) (filter, error) {
	if spec == nil {
		return filter{}, nil
	}
	return p.compiler(spec)()
}

// compiler also serves profiles that are not kept any more.
func (p *Profiles) compiler(spec *specs.LinuxSeccomp) func() (filter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.kept {
		if known.spec == spec {
			return known.compile
		}
	}
	return func() (filter, error) { return compile(spec) }
}

func compile(spec *specs.LinuxSeccomp) (filter, error) {
	f, err := seccomp.Compile(spec)
	if err != nil {
		return filter{}, failure.Field("linux.seccomp", "%v", err)
	}
	return filter{Filter: f, suits: initfilter.Suits(f)}, nil
}
