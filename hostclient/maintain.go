package hostclient

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// restPeriod is waited before connecting again when the connection that broke had not answered anything: whoever accepts and hangs up gets no busy loop.
const restPeriod = 100 * time.Millisecond

// maintain owns the control connection: it waits for its end, joins it and makes the next, until the client's life ends or the guest is
// lost. It closes done.
func (c *Client) maintain(s *session) {
	defer close(c.done)
	var lost time.Time // when the guest gave no answer any more
	for {
		select {
		case <-s.done():
		case <-c.life.Done():
			s.close(context.Cause(c.life))
			return
		}
		err := s.close(nil)
		c.cfg.Logger.Warn("lost the control connection", "err", err)
		if lost.IsZero() || s.useful.Load() {
			lost = time.Now()
		}
		if s, err = c.reconnect(lost, s.useful.Load(), err); err != nil {
			c.end(err)
			return
		}
		c.cfg.Logger.Info("connected again", "guest", s.software)
		c.setSession(s)
	}
}

// reconnect connects again within the bound of the configuration, which does not run while the client is paused.
func (c *Client) reconnect(lost time.Time, useful bool, cause error) (*session, error) {
	if c.cfg.ReconnectTimeout < 0 {
		return nil, fmt.Errorf("lost the connection to the guest: %w: %w", cause, errdefs.ErrUnavailable)
	}
	if !useful {
		if err := pause(c.life, restPeriod); err != nil {
			return nil, err
		}
	}
	for {
		if err := c.pauses.wait(c.life); err != nil {
			return nil, err
		}
		began := time.Now()
		if resumed := c.pauses.latest(); resumed.After(lost) {
			lost = resumed
		}
		ctx, cancel := context.WithDeadline(c.life, lost.Add(c.cfg.ReconnectTimeout))
		s, err := c.connect(ctx)
		cancel()
		switch {
		case err == nil:
			return s, nil
		case c.life.Err() != nil:
			return nil, context.Cause(c.life)
		case !c.pauses.since(began):
			return nil, fmt.Errorf("lost the connection to the guest (%v) and cannot connect again: %v: %w", cause, err, errdefs.ErrUnavailable)
		}
	}
}
