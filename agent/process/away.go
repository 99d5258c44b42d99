package process

import (
	"context"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// HostAway is told when no host is connected any more, HostBack when one is again. In between, the processes that do not live on for ever without a host are ended when
// their time is over (SPEC 4.1, Create).
func (t *Table) HostAway() { t.setAway(true) }

// HostBack undoes HostAway.
func (t *Table) HostBack() { t.setAway(false) }

func (t *Table) setAway(away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away = away
	for _, p := range t.procs {
		p.setAway(away)
	}
}

// setAway starts or stops the process's time without a host.
func (p *Process) setAway(away bool) {
	if p.cfg.AwayTimeout == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopAlone()
	if away && p.state != deleted {
		var timer *time.Timer
		timer = time.AfterFunc(p.cfg.AwayTimeout, func() { p.endAlone(func() bool { return p.alone == timer }) })
		p.alone = timer
	}
}

// stopAlone is called with mu held.
func (p *Process) stopAlone() {
	if p.alone != nil {
		p.alone.Stop()
		p.alone = nil
	}
}

// endAlone ends the process unless its host came back in the last moment, when still is false: a running one is killed, with all of its container, and its exit is kept; one that
// does not run yet is deleted.
func (p *Process) endAlone(still func() bool) {
	p.mu.Lock()
	over, st := still() && p.state < exited, p.state
	p.mu.Unlock()
	if !over {
		return
	}
	p.table.log.Warn("ending a process whose host stays away", "process", p.cfg.ID, "bound", p.cfg.AwayTimeout)
	var err error
	if st == running {
		err = p.Signal(syscall.SIGKILL, p.cfg.Parent == nil)
	} else {
		_, err = p.Delete(context.Background(), true)
	}
	if err != nil && !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
		p.table.log.Error("cannot end a process whose host stays away", "process", p.cfg.ID, "err", err)
	}
}
