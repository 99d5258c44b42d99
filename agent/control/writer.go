package control

import (
	"net"
	"sync"
	"time"
)

// A connection on which nothing moves for between stuckAfter and one refreshPeriod more is closed: a host that does not read for so long is stuck, and must not keep the agent's goroutines.
// The deadline is not set for every write, since that costs as much as a small write itself.
const (
	stuckAfter    = 10 * time.Second
	refreshPeriod = time.Second
)

// writer writes frames, one at a time. After a failed write the connection is of no use, and closed.
type writer struct {
	conn net.Conn

	mu        sync.Mutex
	refreshed time.Time // when the deadline was set
}

// write writes a whole frame.
func (w *writer) write(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.refreshed) >= refreshPeriod {
		if err := w.conn.SetWriteDeadline(now.Add(stuckAfter + refreshPeriod)); err != nil {
			return err
		}
		w.refreshed = now
	}
	_, err := w.conn.Write(b)
	if err != nil {
		_ = w.conn.Close()
	}
	return err
}

// frame writes one that has no body.
func (w *writer) frame(f frame) error {
	var b [headerSize]byte
	f.put(b[:])
	return w.write(b[:])
}
