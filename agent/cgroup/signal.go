//go:build linux

package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal sends sig to every process in the group and beneath. For SIGKILL it is Kill; for others the group is frozen meanwhile, so that no process that is forked
// in between is missed, and those that are excepted are left out. A group that is paused, or that somebody else froze, stays frozen, with the signal pending.
func (g *Group) Signal(ctx context.Context, sig syscall.Signal, except ...int) error {
	if sig == syscall.SIGKILL {
		return g.Kill()
	}
	return g.WithFreezer(func() error {
		before, err := g.Frozen()
		if err != nil {
			return err
		}
		if before {
			return g.signalAll(sig, except)
		}
		err = g.freeze(ctx, signalBound)
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			err = g.signalAll(sig, except)
		}
		return errors.Join(err, g.thaw())
	})
}

func (g *Group) signalAll(sig syscall.Signal, except []int) error {
	pids, err := pidsBeneath(g.Path())
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if !slices.Contains(except, pid) {
			errs = append(errs, g.signalMember(pid, sig))
		}
	}
	return errors.Join(errs...)
}

// signalMember signals pid if it is still in the group: in between it may have died, and the number be a stranger's.
func (g *Group) signalMember(pid int, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	// The pidfd holds whoever has the pid now; if that one is in the group, it is the right one.
	rel, err := groupOf(pid)
	if err != nil || !within(rel, g.rel) {
		return nil
	}
	return ignoreGone(unix.PidfdSendSignal(fd, sig, nil, 0))
}

func ignoreGone(err error) error {
	if err == unix.ESRCH {
		return nil
	}
	return err
}

// groupOf reads the group of a process, relative to Mount.
func groupOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if rel, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(rel, "\n"), nil
		}
	}
	return "", fmt.Errorf("process %d is in no cgroup of the unified hierarchy", pid)
}

// PIDs lists the processes in the group and beneath, in the guest's first pid namespace. Any of them may be gone by now.
func (g *Group) PIDs() ([]int, error) { return pidsBeneath(g.Path()) }

func pidsBeneath(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		switch {
		case gone(err):
			return nil
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		}
		found, err := readPIDs(filepath.Join(path, "cgroup.procs"))
		pids = append(pids, found...)
		return err
	})
	return pids, err
}

func readPIDs(file string) ([]int, error) {
	b, err := os.ReadFile(file)
	if gone(err) || errors.Is(err, unix.EOPNOTSUPP) { // the processes of a threaded group are listed above it
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range bytes.Fields(b) {
		pid, err := strconv.Atoi(string(f))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if pid > 0 { // 0 is a process of another pid namespace, which the agent does not live in
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
