package hostclient

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Pause tells the client that the guest's machine is about to be paused, so that its silence means nothing: no ping is sent or judged, and no time counts
// against [Config.ReconnectTimeout], until Resume. Calls in flight wait, bounded by their contexts. Pauses nest.
func (c *Client) Pause() { c.pauses.pause() }

// Resume ends a Pause. It panics without one.
func (c *Client) Resume() { c.pauses.resume() }

// watchLiveness pings the guest and gives the connection up when an answer is overdue and no pause explains it.
func (c *Client) watchLiveness() {
	for pause(c.life, c.cfg.PingInterval) == nil {
		if c.pauses.wait(c.life) != nil {
			return
		}
		s, err := c.session(c.life)
		if err != nil {
			return
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(c.life, c.cfg.PingTimeout)
		err = s.call(ctx, pingOperation())
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && !c.pauses.since(began) {
			s.fail(errors.New("the guest does not answer pings"))
		}
	}
}

// pauses keeps account of Pause and Resume. The zero value is ready, and not paused.
type pauses struct {
	mu      sync.Mutex
	depth   int
	resumed chan struct{} // closed at the last Resume; nil while not paused
	last    time.Time     // when the latest pause began or ended
}

func (p *pauses) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.depth++; p.depth == 1 {
		p.resumed = make(chan struct{})
		p.last = time.Now()
	}
}

func (p *pauses) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.depth == 0 {
		panic("hostclient: Resume without Pause")
	}
	if p.depth--; p.depth == 0 {
		close(p.resumed)
		p.resumed = nil
		p.last = time.Now()
	}
}

// wait returns when no pause is on, or with the cause of ctx's end.
func (p *pauses) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		resumed := p.resumed
		p.mu.Unlock()
		if resumed == nil {
			return nil
		}
		select {
		case <-resumed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// latest is when a pause last began or ended, zero if there was none.
func (p *pauses) latest() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// since reports whether a pause is on, or one began or ended after t.
func (p *pauses) since(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.depth > 0 || p.last.After(t)
}
