//go:build linux

package nursery

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// An instance is one life of the nursery process, with the calls that do not know their pid yet.
type instance struct {
	*process
	exited  chan struct{} // closed when the process has been reaped
	status  pidfd.Status  // of the process, once exited
	settled chan struct{} // closed when orphan is known, too

	mu      sync.Mutex
	dead    bool
	waiting map[uint64]*call
	lostTo  map[uint64]struct{} // calls given up while it was unknown whether they had forked
	orphan  int                 // the pid of the last fork, once settled
	last    uint64              // and its call
}

func newInstance(p *process, w *pidfd.Waiter) (*instance, error) {
	i := &instance{
		process: p, exited: make(chan struct{}), settled: make(chan struct{}),
		waiting: make(map[uint64]*call), lostTo: make(map[uint64]struct{}),
	}
	return i, w.Add(p.pid, p.pidfd, func(s pidfd.Status) { i.status = s; close(i.exited) })
}

// enter registers a call, unless the process is known to be dead.
func (i *instance) enter(c *call) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return false
	}
	i.waiting[c.seq] = c
	return true
}

// leave forgets a call whose pid is known or who has none.
func (i *instance) leave(c *call) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.waiting, c.seq)
}

// condemn kills the process. What its last request came to shows when it has settled.
func (i *instance) condemn() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.dead {
		i.kill()
	}
}

// settle reads the ledger of the reaped process and wakes the calls that wait for it. It gives the pid of a child that no call will ask for, or 0.
func (i *instance) settle() (stray int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.dead = true
	i.last, i.orphan = i.process.last()
	i.release()
	for _, c := range i.waiting {
		c.wake()
	}
	if _, lost := i.lostTo[i.last]; lost {
		stray = i.orphan
	}
	close(i.settled)
	return stray
}

// claim waits for a condemned process to settle and gives the pid of the call's child, or 0 if it has none and will never have one. It reports false when the process does not die
// within the bound; should the call turn out to have a child then, it becomes a stray.
func (i *instance) claim(c *call, bound time.Duration) (pid int, ok bool) {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-i.settled:
	case <-timer.C:
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.dead {
		i.lostTo[c.seq] = struct{}{}
		return 0, false
	}
	if i.last == c.seq {
		return i.orphan, true
	}
	return 0, true
}

// request sends a message with its files. A nursery that takes nothing for the time of the bound is an error, too.
func (i *instance) request(seq uint64, r *Request, m *message, remote *os.File, bound time.Duration) error {
	m.setSeq(seq)
	fds := make([]int, 0, maxFiles)
	fds = append(fds, int(remote.Fd()))
	if m.isLong() {
		memory, err := m.memory()
		if err != nil {
			return err
		}
		defer memory.Close()
		fds = append(fds, int(memory.Fd()))
	}
	if err := i.socket.SetWriteDeadline(time.Now().Add(bound)); err != nil {
		return errGone // closed
	}
	return i.send(m.inline(), unix.UnixRights(files(r, fds)...))
}
