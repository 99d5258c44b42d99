package hostclient

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
)

// The range from which a port for stdio is picked: above what services use, below the kernel's reserved top.
const (
	firstStdioPort = 1 << 20
	lastStdioPort  = 1 << 30
	portAttempts   = 8
)

// stdioHub gives the hub that accepts the guest's data connections, and listens at its first use. One serves all processes, since tokens tell the streams
// apart. A failed listen is tried again at the next use.
func (c *Client) stdioHub() (*streams.Hub, error) {
	c.hubMu.Lock()
	defer c.hubMu.Unlock()
	if c.hubEnded {
		return nil, ErrClosed
	}
	if c.hub != nil {
		return c.hub, nil
	}
	if c.cfg.StdioPort != 0 {
		return c.listen(c.cfg.StdioPort)
	}
	var failures []error
	for range portAttempts {
		hub, err := c.listen(firstStdioPort + rand.Uint32N(lastStdioPort-firstStdioPort))
		if err == nil || errors.Is(err, errors.ErrUnsupported) {
			return hub, err
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("cannot find a free port for stdio: %w", failures[len(failures)-1])
}

func (c *Client) listen(port uint32) (*streams.Hub, error) {
	l, err := c.transport.Listen(port)
	if err != nil {
		return nil, err
	}
	c.hub = streams.NewHub(l, port, nil, c.cfg.Logger)
	return c.hub, nil
}

func (c *Client) closeHub() {
	c.hubMu.Lock()
	defer c.hubMu.Unlock()
	c.hubEnded = true
	if c.hub != nil {
		c.hub.Close()
		c.hub = nil
	}
}
