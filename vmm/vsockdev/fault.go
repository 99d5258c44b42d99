package vsockdev

import (
	"slices"
	"sync"
)

// Direction is one of the two directions of a connection.
type Direction uint8

// The two directions.
const (
	HostToGuest Direction = iota
	GuestToHost
)

// FaultAction is what a Fault does.
type FaultAction uint8

const (
	// FaultReset resets the connection on both sides, with ECONNRESET for the host.
	FaultReset FaultAction = iota
	// FaultClose ends the connection on both sides as if the other side had closed it.
	FaultClose
	// FaultHalfClose ends the fault's direction: its reader sees an end of file, its writer EPIPE. The other direction goes on.
	FaultHalfClose
	// FaultStall lets no further byte of the direction through until Fault.Gate opens.
	FaultStall
)

// ConnInfo describes a new connection to Config.Fault.
type ConnInfo struct {
	Local, Remote Addr
	Dialed        bool // the host dialled it
}

// Fault is one thing that goes wrong with a connection. It happens when exactly At bytes have gone in its direction: a
// packet that crosses the place is cut there; at 0 it happens when the connection is made. The bytes before it arrive,
// except that a guest may drop what it has not read when a reset comes.
type Fault struct {
	Direction Direction
	At        uint64
	Action    FaultAction
	Gate      *Gate // for FaultStall
}

// Gate holds stalled connections until it is opened. The zero Gate is shut.
type Gate struct {
	mu      sync.Mutex
	open    bool
	waiting []*Conn
}

// Open lets every connection that is stalled at the gate, and every later one, go on.
func (g *Gate) Open() {
	g.mu.Lock()
	waiting := g.waiting
	g.open, g.waiting = true, nil
	g.mu.Unlock()
	for _, c := range waiting {
		c.mu.Lock()
		c.readable.Broadcast()
		c.mu.Unlock()
		c.dev.sender.wake(c)
	}
}

// pass reports whether the gate is open, and else remembers to wake c.
func (g *Gate) pass(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open && !slices.Contains(g.waiting, c) {
		g.waiting = append(g.waiting, c)
	}
	return g.open
}
