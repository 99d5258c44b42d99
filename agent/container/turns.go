//go:build linux

package container

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// turns bound how many containers are being made at once. Until its program runs, each has a process of the agent's own binary: 200 of them ran a machine of 512 MB out of memory.
type turns chan struct{}

// turnBound is how long one waits for a turn before it goes on without: what hangs in the kernel and keeps its turn, such as a mount, does not hold the others up for ever.
const turnBound = 2 * time.Minute

func newTurns() turns { return make(turns, max(8, 2*runtime.NumCPU())) }

// take waits for a turn, which done gives back, at its first call.
func (t turns) take(ctx context.Context) (done func(), err error) {
	bound := time.NewTimer(turnBound)
	defer bound.Stop()
	select {
	case t <- struct{}{}:
		return sync.OnceFunc(func() { <-t }), nil
	case <-bound.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
