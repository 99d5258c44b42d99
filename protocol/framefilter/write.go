package framefilter

// Write takes the frames that the own yamux sends. The header of a frame with a body is held until the first bytes of the body come, and goes out with
// them: yamux writes the two separately and without a pause. So a Write that ends with such a header reports it as written, and its error, if it has one,
// comes with the next Write.
func (c *Conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		var n int
		var err error
		if c.out.body > 0 {
			n, err = c.writeBody(p[done:])
		} else {
			n, err = c.writeHeader(p[done:])
		}
		done += n
		if err != nil {
			return done, c.explain(err)
		}
	}
	return done, nil
}

// writeHeader takes bytes of a header, and writes it once it is complete and nothing follows it.
func (c *Conn) writeHeader(p []byte) (int, error) {
	rest, h, ok := c.out.takeHeader(p)
	taken := len(p) - len(rest)
	if !ok {
		return taken, nil
	}
	c.mu.Lock()
	// Before the frame is written, as the peer may answer before Write returns.
	c.state.send(h)
	c.mu.Unlock()
	if c.out.body > 0 {
		c.held = true
		return taken, nil
	}
	_, err := c.Conn.Write(c.out.header[:])
	return taken, err
}

// writeBody writes bytes of a body, with the header before them if it is held.
func (c *Conn) writeBody(p []byte) (int, error) {
	p = p[:min(uint64(len(p)), uint64(c.out.body))]
	written := 0
	if c.held {
		n, err := c.writeMerged(p)
		if err != nil {
			return n, err
		}
		written = n
	}
	if written < len(p) {
		n, err := c.Conn.Write(p[written:])
		written += n
		if err != nil {
			return written, err
		}
	}
	c.out.skipBody(p)
	return written, nil
}

// writeMerged writes the held header and as much of p as the buffer takes, and says how much of p that was.
func (c *Conn) writeMerged(p []byte) (int, error) {
	c.held = false
	copy(c.merged, c.out.header[:])
	size := headerSize + copy(c.merged[headerSize:], p)
	n, err := c.Conn.Write(c.merged[:size])
	return max(0, n-headerSize), err
}

// explain prefers the reason for which the filter closed the connection over "use of closed network connection".
func (c *Conn) explain(err error) error {
	if refused := c.Err(); refused != nil {
		return refused
	}
	return err
}
