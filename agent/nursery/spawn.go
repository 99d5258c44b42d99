//go:build linux

package nursery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// errLost says that the nursery died before it forked the child: the request may be sent again.
var errLost = errors.New("request lost")

func (n *Nursery) attempt(ctx context.Context, r *Request, m *message) (*Child, error) {
	c, remote, err := newCall(n.seq.Add(1), r.Terminal)
	if err != nil {
		return nil, fmt.Errorf("cannot spawn: %w", err)
	}
	defer c.close()
	if err := n.fork(ctx, c, r, m, remote); err != nil {
		return nil, err
	}
	if c.pid == 0 {
		return nil, n.explain(r, c.failed)
	}
	return n.exec(ctx, c, r)
}

// fork sends the request and waits until it is known whether there is a child: c.pid, or c.failed, or errLost.
// The context is heeded only until the request is sent. Then the answer is a matter of milliseconds, or of the bound.
func (n *Nursery) fork(ctx context.Context, c *call, r *Request, m *message, remote *os.File) error {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		remote.Close()
		return context.Cause(ctx)
	}
	inst, err := n.current(ctx)
	if err != nil {
		remote.Close()
		return err
	}
	if !inst.enter(c) {
		remote.Close()
		return errLost
	}
	defer inst.leave(c)
	err = inst.request(c.seq, r, m, remote, n.cfg.Bound)
	remote.Close()
	if err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("cannot spawn: %w", err) // it has not been sent
	}
	if err == nil {
		err = c.awaitFork(n.cfg.Bound)
	}
	if err == nil || (errors.Is(err, io.EOF) && c.failed != nil && c.failed.step <= lastOwnStep) {
		return nil
	}
	return n.recover(inst, c, err)
}

// recover finds out what became of a call whose nursery gave no answer.
func (n *Nursery) recover(inst *instance, c *call, cause error) error {
	inst.condemn()
	n.unset(inst)
	pid, ok := inst.claim(c, n.cfg.Bound)
	switch {
	case !ok:
		n.cfg.Logger.Error("nursery does not die", "pid", inst.pid, "cause", cause)
		return ErrUnavailable
	case pid != 0:
		c.pid = pid
		return nil
	case n.closing.Err() != nil:
		return ErrClosed
	}
	return errLost
}

// explain makes an error of a reply.
func (n *Nursery) explain(r *Request, failed *reply) error {
	if failed.step <= lastOwnStep {
		if r.Init != nil && hasExited(r.Init) {
			return ErrInitExited
		}
	}
	return failed.err(r)
}

// exec waits until the child executes its program.
func (n *Nursery) exec(ctx context.Context, c *call, r *Request) (*Child, error) {
	fd, err := pidfd.Open(c.pid)
	if err != nil {
		// Out of file descriptors, or of memory.
		killAndReap(c.pid)
		return nil, fmt.Errorf("cannot spawn: %w", err)
	}
	defer context.AfterFunc(ctx, c.wake)()
	defer context.AfterFunc(n.closing, c.wake)()
	err = c.awaitExec(ctx, n.closing)
	if err == nil && c.failed != nil {
		err = c.failed.err(r)
	}
	if err == nil {
		var child *Child
		if child, err = c.child(n.cfg.Waiter, fd); err == nil {
			return child, nil
		}
	}
	n.discard(c.pid, fd)
	return nil, err
}

// discard kills a child that nobody will ask for, and has it reaped.
func (n *Nursery) discard(pid int, fd *os.File) {
	_ = pidfd.Signal(fd, unix.SIGKILL)
	if err := n.cfg.Waiter.Add(pid, fd, func(pidfd.Status) { fd.Close() }); err != nil {
		fd.Close()
		killAndReap(pid)
	}
}

// killAndReap is for a child that has no pidfd and is nobody else's: it is unreaped, so its pid is still its own. It blocks until the child is dead.
func killAndReap(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return
		}
	}
}

// hasExited says whether the process of a pidfd has ended.
func hasExited(fd *os.File) bool {
	poll := []unix.PollFd{{Fd: int32(fd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1
}
