package control

import (
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

var errTooLarge = errdefs.ErrResourceExhausted

// logPeriod is how often a peer can make the agent log: whoever reaches the port must not be able to flood the console.
const logPeriod = time.Second

// limitedLog passes one warning each logPeriod, and counts those that it dropped.
type limitedLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	next    time.Time
	dropped int
}

// Warn logs or drops.
func (l *limitedLog) Warn(msg string, args ...any) {
	dropped, ok := l.pass(time.Now())
	if !ok {
		return
	}
	if dropped > 0 {
		args = append(args, "dropped", dropped)
	}
	l.logger.Warn(msg, args...)
}

// Debug logs what needs no bound, since it is off by default.
func (l *limitedLog) Debug(msg string, args ...any) { l.logger.Debug(msg, args...) }

func (l *limitedLog) pass(now time.Time) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		l.dropped++
		return 0, false
	}
	dropped, l.dropped, l.next = l.dropped, 0, now.Add(logPeriod)
	return dropped, true
}
