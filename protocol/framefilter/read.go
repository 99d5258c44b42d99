package framefilter

// Read gives only frames that the peer may send. At the first one that it may not, it closes the connection and returns a *FrameError, then and ever
// after.
//
// Nothing is buffered: the bytes are checked where they lie. A header of which only a part has come is passed on, since nobody can act on it before the
// rest has come and is checked too.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if refused := c.check(p[:n]); refused != nil {
		// What came in the same read before the refused frame is given up with the connection.
		c.Conn.Close()
		return 0, refused
	}
	return n, err
}

// check advances over incoming bytes. Its result is an error and not a *FrameError, so that nil stays nil.
func (c *Conn) check(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	for {
		b = c.in.skipBody(b)
		if len(b) == 0 {
			return nil
		}
		rest, h, ok := c.in.takeHeader(b)
		if ok {
			if reason := c.state.receive(h); reason != "" {
				c.err = h.refused(reason)
				return c.err
			}
		}
		b = rest
	}
}
