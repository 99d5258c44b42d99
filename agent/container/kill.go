//go:build linux

package container

import (
	"context"
	"time"
)

// killAgain is how long a kill waits before it looks for more: an init that libcontainer is making joins its cgroup some time after it was forked.
const killAgain = 100 * time.Millisecond

// killWith kills what is in the container when ctx ends, and goes on with that until stop is called, which must follow. Nothing is killed after stop has returned; it says whether anything was.
func (c *Container) killWith(ctx context.Context) (stop func() (killed bool)) {
	stopped, done := make(chan struct{}), make(chan struct{})
	prevent := context.AfterFunc(ctx, func() {
		defer close(done)
		c.killUntil(stopped)
	})
	return func() bool {
		if prevent() {
			return false
		}
		close(stopped)
		<-done
		return true
	}
}

func (c *Container) killUntil(stopped <-chan struct{}) {
	again := time.NewTicker(killAgain)
	defer again.Stop()
	for {
		if err := c.group.Kill(); err != nil {
			c.log.Error("cannot kill a container that is given up", "container", c.id, "err", err)
			return
		}
		select {
		case <-again.C:
		case <-stopped:
			return
		}
	}
}

// killAfter is killWith for a bound; 0 is none.
func (c *Container) killAfter(bound time.Duration) (stop func() (killed bool)) {
	if bound == 0 {
		return func() bool { return false }
	}
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	within := c.killWith(ctx)
	return func() bool {
		defer cancel() // not before within, to which it would be the end of the bound
		return within()
	}
}
