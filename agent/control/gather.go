package control

import (
	"net"
	"sync"
)

// maxGathered bounds what is gathered, in bytes: beyond it a writer writes. A buffer that has become longer is not kept.
const maxGathered = 16 << 10

// gatherer is a connection that holds what is written while its reader is busy with what it has read, and writes all of it before the reader waits for more. So the answers to requests that came together go out
// together, and a single one as soon as it would have otherwise.
//
// One Read and one Write may run at the same time, not more. An error of a write that was held comes with the next Read, Write or flush.
type gatherer struct {
	net.Conn

	writing sync.Mutex // held while the connection is written to
	spare   []byte     // becomes held: of whoever has writing

	mu      sync.Mutex
	waiting bool // Read waits: nobody would write what is held
	held    []byte
	err     error // of a write
}

// Read writes what is held, and reads.
func (g *gatherer) Read(p []byte) (int, error) {
	if err := g.wait(); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	g.waiting = false
	g.mu.Unlock()
	return n, err
}

// wait writes until nothing is held, and has Write do without holding from then on.
func (g *gatherer) wait() error {
	for {
		if err := g.flush(); err != nil {
			return err
		}
		g.mu.Lock()
		g.waiting = len(g.held) == 0
		waiting := g.waiting
		g.mu.Unlock()
		if waiting {
			return nil
		}
	}
}

// Write holds p, or if the reader waits writes it.
func (g *gatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	hold, full := !g.waiting && g.err == nil, false
	if hold {
		g.held = append(g.held, p...)
		full = len(g.held) > maxGathered
	}
	err := g.err
	g.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case !hold:
		g.writing.Lock()
		defer g.writing.Unlock()
		return g.Conn.Write(p)
	case full:
		return len(p), g.flush()
	}
	return len(p), nil
}

// flush writes what is held.
func (g *gatherer) flush() error {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.mu.Lock()
	b, err := g.held, g.err
	g.held = g.spare[:0]
	g.mu.Unlock()
	if err == nil && len(b) > 0 {
		_, err = g.Conn.Write(b)
		g.mu.Lock()
		g.err = err
		g.mu.Unlock()
	}
	if g.spare = b; cap(b) > maxGathered {
		g.spare = nil
	}
	return err
}
