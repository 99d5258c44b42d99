//go:build linux

package container

import (
	"context"
	"runtime"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// turns bound how many containers are being made at once. Until its program runs, each has a process of the agent's own binary: 200 of them ran a machine of 512 MB out of memory.
type turns chan struct{}

// turnBound is how long one waits for a turn before it goes on without: what hangs in the kernel and keeps its turn, such as a mount, does not hold the others up for ever.
const turnBound = 2 * time.Minute

func newTurns() turns { return make(turns, max(8, 2*runtime.NumCPU())) }

// take waits for a turn, which done gives back. With hooks that run while the container is made there is none to wait for: they may last, and wait for another container.
func (t turns) take(ctx context.Context, hooks *specs.Hooks) (done func(), err error) {
	//lint:ignore SA1019 deprecated, and supported
	if hooks != nil && len(hooks.Prestart)+len(hooks.CreateRuntime)+len(hooks.CreateContainer) > 0 {
		return func() {}, nil
	}
	bound := time.NewTimer(turnBound)
	defer bound.Stop()
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-bound.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
