//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// How long a freeze is waited for. A process in an uninterruptible sleep may keep the group from freezing for as long as that lasts.
const (
	signalBound = 2 * time.Second // before a signal, which must then reach the others
	pauseBound  = 10 * time.Second
)

// Pause freezes the group, and returns when every process in it and beneath stands still. After an error it is not frozen; DEADLINE_EXCEEDED: a process does not stand still within
// pauseBound. Frozen processes can be killed.
func (g *Group) Pause(ctx context.Context) error {
	return g.WithFreezer(func() error {
		err := g.freeze(ctx, pauseBound)
		if err == nil {
			return nil
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = failure.New(context.DeadlineExceeded, "not every process stands still after %v", pauseBound)
		}
		return errors.Join(err, g.thaw())
	})
}

// Resume lets the group's processes go on.
func (g *Group) Resume() error { return g.WithFreezer(g.thaw) }

// WithFreezer calls f, which may freeze and thaw the group, while nobody else does: a signal must not thaw what a pause has frozen. Kill does not wait for it.
func (g *Group) WithFreezer(f func() error) error {
	g.freezer.Lock()
	defer g.freezer.Unlock()
	return f()
}

// Frozen says whether somebody has frozen the group itself.
func (g *Group) Frozen() (bool, error) {
	b, err := g.read("cgroup.freeze")
	if gone(err) {
		return false, nil
	}
	return strings.TrimSpace(string(b)) == "1", err
}

// freeze waits until everything stands still. When the bound is over before, which is context.DeadlineExceeded, most does.
func (g *Group) freeze(ctx context.Context, bound time.Duration) error {
	if err := g.write("cgroup.freeze", "1"); err != nil {
		return fmt.Errorf("cannot freeze cgroup %s: %w", g.rel, err)
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return g.await(ctx, func() (bool, error) {
		n, err := g.value("cgroup.events", "frozen")
		return n == 1, err
	})
}

func (g *Group) thaw() error { return g.write("cgroup.freeze", "0") }
