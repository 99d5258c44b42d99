package vsockdev

import (
	"sync"
	"time"
)

// deadline wakes the waiters of a condition at a set time. Its fields are guarded by the condition's lock.
type deadline struct {
	cond    *sync.Cond
	expired bool
	timer   *time.Timer
	setting uint64 // tells a timer that fired too late that it is no longer the one
}

// set replaces the deadline; the zero time is none. The caller holds the lock.
func (d *deadline) set(t time.Time) {
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		d.cond.Broadcast()
		return
	}
	setting := d.setting
	d.timer = time.AfterFunc(wait, func() { d.fire(setting) })
}

func (d *deadline) fire(setting uint64) {
	d.cond.L.Lock()
	defer d.cond.L.Unlock()
	if d.setting == setting {
		d.expired = true
		d.cond.Broadcast()
	}
}

// stop ends the timer. The caller holds the lock.
func (d *deadline) stop() {
	d.setting++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
