//go:build linux

package cgroup

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// await waits until cond holds, looking again each time that the kernel says that cgroup.events has changed.
func (g *Group) await(ctx context.Context, cond func() (bool, error)) error {
	if ok, err := cond(); ok || err != nil {
		return err
	}
	events, err := g.watch()
	if err != nil {
		if ok, _ := cond(); ok { // the group went away meanwhile
			return nil
		}
		return err
	}
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		if _, err := events.Read(buf); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("cannot watch cgroup %s: %w", g.rel, err)
		}
	}
}

// watch gives a file that becomes readable when cgroup.events changes, and when the group is removed.
func (g *Group) watch() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch cgroup %s: %w", g.rel, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, g.file("cgroup.events"), unix.IN_MODIFY); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("cannot watch cgroup %s: %w", g.rel, err)
	}
	return f, nil
}
