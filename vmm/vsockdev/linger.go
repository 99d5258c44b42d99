package vsockdev

import (
	"sync"
	"syscall"
	"time"
)

// closeTimeout is how long a connection that the host has closed waits for the guest to confirm, as in Linux
// (VSOCK_CLOSE_TIMEOUT). A guest whose process still reads what was sent confirms late; then it is reset, and Linux keeps
// the unread bytes nevertheless.
const closeTimeout = 8 * time.Second

// lingering is the connections that wait for a close to be confirmed, oldest first. One timer serves them all.
type lingering struct {
	mu    sync.Mutex
	list  []lingerer
	timer *time.Timer
	ended bool
	busy  sync.WaitGroup // timer calls to come or under way
}

type lingerer struct {
	conn  *Conn
	until time.Time
}

func (l *lingering) add(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	// Most closes are confirmed soon and in order: forget those here, not after the timeout.
	for len(l.list) > 0 && l.list[0].conn.isDead() {
		l.list[0] = lingerer{}
		l.list = l.list[1:]
	}
	l.list = append(l.list, lingerer{c, time.Now().Add(closeTimeout)})
	if l.timer == nil {
		l.arm(closeTimeout)
	}
}

// arm sets the timer. The caller holds mu.
func (l *lingering) arm(wait time.Duration) {
	l.busy.Add(1)
	l.timer = time.AfterFunc(wait, func() {
		defer l.busy.Done()
		l.expire(time.Now())
		l.rearm()
	})
}

// rearm sets the timer for the connection that is the oldest now.
func (l *lingering) rearm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	if len(l.list) > 0 && !l.ended {
		l.arm(time.Until(l.list[0].until))
	}
}

// expire resets the connections whose time is over.
func (l *lingering) expire(now time.Time) {
	l.mu.Lock()
	n := 0
	for n < len(l.list) && !l.list[n].until.After(now) {
		n++
	}
	expired := l.list[:n:n]
	if l.list = l.list[n:]; len(l.list) == 0 {
		l.list = nil
	}
	l.mu.Unlock()
	for _, e := range expired {
		e.conn.reset(syscall.ETIMEDOUT)
	}
}

// end stops the timer and waits for its call.
func (l *lingering) end() {
	l.mu.Lock()
	l.ended, l.list = true, nil
	if l.timer != nil && l.timer.Stop() {
		l.busy.Done()
	}
	l.mu.Unlock()
	l.busy.Wait()
}
