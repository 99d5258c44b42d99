//go:build linux

package nursery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// glance is how long a call waits for its program to execute before it looks whether it has been forked. Almost all are done by then.
const glance = time.Second

// errLost says that the nursery died before it forked the child: the request may be sent again.
var errLost = errors.New("request lost")

// A spawn is one attempt at a request.
type spawn struct {
	*Nursery
	*call
	req   *Request
	inst  *instance
	entry int
	held  bool // the entry is this spawn's
	pid   int  // once known
}

// attempt makes the process, or gives errLost.
func (n *Nursery) attempt(ctx context.Context, r *Request, m *message) (*Child, error) {
	inst, err := n.current(ctx)
	if err != nil {
		return nil, err
	}
	c, remote, err := newCall(r.Terminal)
	if err != nil {
		return nil, fmt.Errorf("cannot spawn: %w", err)
	}
	defer c.close()
	s := &spawn{Nursery: n, call: c, req: r, inst: inst}
	defer s.leave()
	err = s.send(ctx, m, remote)
	remote.Close()
	if err != nil {
		return nil, err
	}
	// Both wake the call; await looks which it was.
	defer context.AfterFunc(ctx, c.wake)()
	defer context.AfterFunc(n.closing, c.wake)()
	return s.finish(s.await(ctx))
}

// send takes an entry of the ledger and sends the request.
func (s *spawn) send(ctx context.Context, m *message, remote *os.File) error {
	select {
	case s.entry = <-s.inst.free:
		s.held = true
	case <-s.inst.settled:
		return errLost
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.closing.Done():
		return ErrClosed
	}
	if !s.inst.enter(s.entry, s.call) {
		return errLost
	}
	err := s.inst.request(s.entry, s.req, m, int(remote.Fd()), s.cfg.Bound)
	if errors.Is(err, errGone) {
		return s.recover()
	}
	if err != nil {
		return fmt.Errorf("cannot spawn: %w", err) // it has not been sent
	}
	return nil
}

// leave gives the entry back.
func (s *spawn) leave() {
	if s.held {
		s.inst.leave(s.entry)
		s.held = false
	}
}

// await waits until the child has executed its program, failed or died, and learns its pid. An error may come with a pid, whose process must then be discarded.
//
// Until there is a pid the contexts are not heeded: the answer is a matter of milliseconds, or of the bound. Nor is ctx when the program has begun: the start has happened.
func (s *spawn) await(ctx context.Context) error {
	start, committed := time.Now(), false
	for {
		// The deadline is set before the contexts are looked at, so that no wake is lost.
		var deadline time.Time
		if s.pid == 0 {
			deadline = time.Now().Add(min(glance, s.cfg.Bound))
		}
		if err := s.file.SetReadDeadline(deadline); err != nil {
			return err
		}
		if s.pid != 0 && ctx.Err() != nil && !committed {
			var err error
			if committed, err = s.executed(); !committed {
				return errors.Join(context.Cause(ctx), err)
			}
		}
		if s.pid != 0 && s.closing.Err() != nil {
			return ErrClosed
		}
		err := s.drain()
		dead := s.learn()
		switch {
		case err == nil && (s.pid != 0 || s.failed != nil && s.failed.step <= lastOwnStep):
			return nil
		case err == nil: // the end, and nobody has said anything: the nursery is dead, or as good as that
			return s.recover()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return errors.Join(err, s.recoverUnknown())
		case s.pid == 0 && (dead || time.Since(start) >= s.cfg.Bound):
			if err := s.recover(); err != nil {
				return err
			}
		}
	}
}

// learn reads the ledger. With a pid or a failure the entry has served.
func (s *spawn) learn() (dead bool) {
	if !s.held {
		return false
	}
	e, dead := s.inst.look(s.entry)
	s.note(e)
	return dead
}

func (s *spawn) note(e entry) {
	s.pid = e.pid
	if e.failed != nil {
		s.failed = e.failed
	}
	if e.pid != 0 || e.failed != nil {
		s.leave()
	}
}

// recover finds out what became of a request whose nursery gives no answer: it is made to die, which makes the ledger final. Nil means that there is a child, or a failure.
func (s *spawn) recover() error {
	s.inst.condemn()
	s.unset(s.inst)
	e, ok := s.inst.conclude(s.entry)
	if !ok {
		s.held = false
		s.inst.undead.Do(func() { s.cfg.Logger.Error("nursery does not die", "pid", s.inst.pid) })
		return ErrUnavailable
	}
	s.note(e)
	switch {
	case s.pid != 0 || s.failed != nil && s.failed.step <= lastOwnStep:
		return nil
	case s.closing.Err() != nil:
		return ErrClosed
	}
	return errLost
}

// recoverUnknown learns the pid of a child that has sent garbage, if need be the hard way.
func (s *spawn) recoverUnknown() error {
	if s.pid != 0 {
		return nil
	}
	return s.recover()
}

// finish makes a Child of what await has learnt, or an error, after which no process is left.
func (s *spawn) finish(err error) (*Child, error) {
	if err == nil && s.failed != nil {
		err = s.explain()
	}
	if s.pid == 0 {
		return nil, err
	}
	fd, openErr := pidfd.Open(s.pid)
	if openErr != nil { // out of file descriptors, or of memory
		killAndReap(s.pid)
		return nil, errors.Join(err, openErr)
	}
	if err == nil {
		exited := make(chan pidfd.Status, 1)
		if err = s.cfg.Waiter.Add(s.pid, fd, func(status pidfd.Status) { exited <- status }); err == nil {
			child := &Child{PID: s.pid, PIDFD: fd, Master: s.master, Exited: exited}
			s.master = nil
			return child, nil
		}
	}
	s.discard(s.pid, fd)
	return nil, err
}

// explain makes an error of a failed step.
func (s *spawn) explain() error {
	if s.failed.step <= lastOwnStep && s.req.Init != nil && hasExited(s.req.Init) {
		return ErrInitExited
	}
	return s.failed.err(s.req)
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
