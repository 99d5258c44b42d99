//go:build linux

package nursery

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// An instance is one life of the nursery process, with the calls that may not know their pid yet.
type instance struct {
	*process
	exited  chan struct{} // closed when the process has been reaped
	status  pidfd.Status  // of the process, once exited
	settled chan struct{} // closed when final is known, too
	undead  sync.Once     // tells that the process does not die
	free    chan int      // entries of the ledger that no call has

	mu    sync.Mutex
	dead  bool
	calls [entries]*call
	lost  []int // entries whose calls have been given up before they knew a pid
	used  bool
	final [entries]entry // the ledger of the dead process
}

func newInstance(p *process, w *pidfd.Waiter) (*instance, error) {
	i := &instance{process: p, exited: make(chan struct{}), settled: make(chan struct{}), free: make(chan int, entries)}
	for n := range entries {
		i.free <- n
	}
	return i, w.Add(p.pid, p.pidfd, func(s pidfd.Status) {
		i.status = s
		close(i.exited)
	})
}

// enter gives a call its entry. It reports false when the process is known to be dead.
func (i *instance) enter(n int, c *call) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return false
	}
	i.clear(n)
	i.calls[n], i.used = c, true
	return true
}

// leave takes back the entry of a call that knows what it says, or whose request was not sent.
func (i *instance) leave(n int) {
	i.mu.Lock()
	i.calls[n] = nil
	i.mu.Unlock()
	i.free <- n
}

// look reads an entry. Dead says that the process will write no more.
func (i *instance) look(n int) (e entry, dead bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return i.final[n], true
	}
	return i.read(n), false
}

// condemn kills the process. What its last requests came to shows when it has settled.
func (i *instance) condemn() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.dead {
		i.kill()
	}
}

// settle keeps the ledger of the reaped process and wakes the calls that wait for it. It gives the pids of children that no call will ask for.
func (i *instance) settle() (strays []int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.dead = true
	for n := range i.final {
		i.final[n] = i.read(n)
	}
	i.release()
	for _, c := range i.calls {
		if c != nil {
			c.wake()
		}
	}
	for _, n := range i.lost {
		if pid := i.final[n].pid; pid != 0 {
			strays = append(strays, pid)
		}
	}
	close(i.settled)
	return strays
}

// deathBound is how long a killed process may take to be gone. It has only to leave the kernel, but on a machine that stands still at times that takes as long as those last.
const deathBound = 10 * time.Second

// conclude waits for a condemned process to settle and gives the last word on an entry. It reports false when the process does not die within deathBound; should the entry turn out to
// have a child then, that becomes a stray, and the entry is never used again.
func (i *instance) conclude(n int) (entry, bool) {
	timer := time.NewTimer(deathBound)
	defer timer.Stop()
	select {
	case <-i.settled:
	case <-timer.C:
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.dead {
		i.lost = append(i.lost, n)
		i.calls[n] = nil
		return entry{}, false
	}
	return i.final[n], true
}

// request sends a message with its files. A nursery that takes nothing for the time of the bound is an error, too.
func (i *instance) request(n int, r *Request, m *message, remote int, bound time.Duration) error {
	m.setEntry(n)
	fds := make([]int, 0, maxFiles)
	fds = append(fds, remote)
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
