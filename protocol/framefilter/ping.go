package framefilter

import "time"

// The bounds on the peer's pings (SPEC 3).
const (
	pingBurst    = 16
	pingInterval = time.Second / 4
)

// pingBucket is a token bucket: pingBurst at once, then one each pingInterval. yamux answers every ping from a goroutine of its own.
type pingBucket struct {
	full time.Time // when the bucket is full again; in the past if it is
}

// take takes a token, if there is one.
func (b *pingBucket) take() bool {
	now := time.Now()
	full := b.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(pingInterval)
	if full.Sub(now) > pingBurst*pingInterval {
		return false
	}
	b.full = full
	return true
}
