//go:build linux

package container

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/nursery"
)

// maxFilters bounds how many filters are kept. Most guests have one or two profiles.
const maxFilters = 8

// filters keeps compiled seccomp filters by their content: to compile a long one takes much of the time in which a container is made.
type filters struct {
	mu   sync.Mutex
	made map[[sha256.Size]byte][]byte // at most maxFilters
}

// get gives the filter in the form that the nursery takes; nil for no profile.
func (f *filters) get(profile *specs.LinuxSeccomp) ([]byte, error) {
	if profile == nil {
		return nil, nil
	}
	text, err := json.Marshal(profile)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the seccomp profile: %w", err)
	}
	key := sha256.Sum256(text)
	f.mu.Lock()
	defer f.mu.Unlock()
	if filter, ok := f.made[key]; ok {
		return filter, nil
	}
	filter, err := nursery.Seccomp(profile)
	if err != nil {
		return nil, failure.Field("linux.seccomp", "%v", err)
	}
	if f.made == nil || len(f.made) >= maxFilters {
		f.made = make(map[[sha256.Size]byte][]byte)
	}
	f.made[key] = filter
	return filter, nil
}
