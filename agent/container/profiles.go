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

// What is kept: most guests have one or two profiles, of some kilobytes.
const (
	maxProfiles = 8
	maxProfile  = 64 << 10 // bytes of JSON
)

// Profiles keeps seccomp profiles, decoded and compiled: most containers of a guest have the same, which is the longest part of their spec. The zero value keeps none yet.
type Profiles struct {
	mu   sync.Mutex
	kept map[string]*profile // by their JSON of at most maxProfile; at most maxProfiles
}

// profile is one of them.
type profile struct {
	spec *specs.LinuxSeccomp // shared by the specs that have it: nobody may change it

	mu       sync.Mutex
	compiled *filter // nil: not yet. An error is not kept, which may be the machine's, and not the profile's
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
	if len(text) > maxProfile {
		return spec, nil
	}
	if p.kept == nil || len(p.kept) >= maxProfiles {
		p.kept = make(map[string]*profile)
	}
	p.kept[string(text)] = &profile{spec: spec}
	return spec, nil
}

// filter gives the filter of a profile that decode gave, none for nil.
func (p *Profiles) filter(spec *specs.LinuxSeccomp) (filter, error) {
	if spec == nil {
		return filter{}, nil
	}
	return p.of(spec).filter()
}

// of also serves profiles that are not kept.
func (p *Profiles) of(spec *specs.LinuxSeccomp) *profile {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.kept {
		if known.spec == spec {
			return known
		}
	}
	return &profile{spec: spec}
}

// filter compiles it the first time.
func (p *profile) filter() (filter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.compiled != nil {
		return *p.compiled, nil
	}
	f, err := compile(p.spec)
	if err != nil {
		return filter{}, err
	}
	p.compiled = &f
	return f, nil
}

func compile(spec *specs.LinuxSeccomp) (filter, error) {
	f, err := seccomp.Compile(spec)
	if err != nil {
		return filter{}, failure.Field("linux.seccomp", "%v", err)
	}
	return filter{Filter: f, suits: initfilter.Suits(f)}, nil
}
