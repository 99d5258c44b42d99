package hostclient

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"

	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
)

// instanceID names one life of an agent or of a client (SPEC 2).
type instanceID [16]byte

func newID() (id instanceID) {
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// Client drives one guest's agent. Make it with [Connect], end it with Close. Its methods may be called from any goroutine.
type Client struct {
	cfg       Config
	transport Transport
	instance  instanceID // ours; the agent knows the owner of a stream by it

	// life ends with Close or with the loss of the guest; its cause says which. wg counts the goroutines that the client owns.
	life   context.Context
	end    context.CancelCauseFunc
	wg     sync.WaitGroup
	done   chan struct{} // closed by maintain, when the connection is gone for good
	pauses pauses

	long  chan struct{} // the slots of operations that may take as long as a process; see longSlots
	turns chan struct{} // the slots of waits that take turns

	mu        sync.Mutex
	current   *session
	changed   chan struct{}         // closed when current changes, and then replaced
	processes map[string][]*Process // by id; more than one object may be about one process
	watching  watching
	closed    bool

	hubMu    sync.Mutex
	hub      *streams.Hub // nil until the first stdio
	hubEnded bool
}

// Connect connects to the agent and says hello. While nobody listens in the guest yet, as when it is still booting, it tries again until ctx ends; what the
// error then wraps is ctx's cause, and its text has the last failure. A peer that is no agent of this protocol version is an error at once: protocol.ErrNotBellhop,
// a *protocol.VersionError.
//
// cfg may be nil. The caller closes the client.
func Connect(ctx context.Context, t Transport, cfg *Config) (*Client, error) {
	c := &Client{
		cfg:       cfg.withDefaults(),
		transport: t,
		instance:  newID(),
		done:      make(chan struct{}),
		changed:   make(chan struct{}),
		processes: make(map[string][]*Process),
	}
	c.life, c.end = context.WithCancelCause(context.Background())
	s, err := c.connect(ctx)
	if err != nil {
		c.end(err)
		return nil, fmt.Errorf("cannot connect to the guest: %w", err)
	}
	c.long = make(chan struct{}, longSlots(cap(s.slots)))
	c.turns = make(chan struct{}, turnSlots(cap(s.slots)))
	c.current = s
	go c.maintain(s)
	if c.cfg.PingInterval > 0 {
		c.wg.Go(c.watchLiveness)
	}
	return c, nil
}

// longSlots is how many of a connection's streams may carry operations that last as long as a process (waiting, watching). One more is for the watch
// that the client itself needs, and turnSlots for waits that last for a moment only, so a quarter stays free for what is answered at once.
func longSlots(streams int) int { return max(1, streams*5/8-1) }

func turnSlots(streams int) int { return max(1, streams/8) }

// Close ends the client: its connections close, what waits for it fails with [ErrClosed], and its goroutines are joined (but one that is in a caller's own Read or
// Write). The guest is not disturbed: its processes run on, and another client may attach to them. It may be called more than once.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end(ErrClosed)
	<-c.done
	for _, p := range c.allProcesses() {
		p.release(ErrClosed)
	}
	c.closeHub()
	c.wg.Wait()
	return nil
}

// Done is closed when the client has ended: by Close, or since the guest is lost for good. Err says which.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the client lives, then [ErrClosed] or why the guest is lost.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return context.Cause(c.life)
	default:
		return nil
	}
}

// spawn runs f in a goroutine that Close joins; f must end when life does. It reports false, and runs nothing, when the client is closed.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// session gives the live connection, and waits for one while there is none.
func (c *Client) session(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, changed := c.current, c.changed
		c.mu.Unlock()
		if c.life.Err() != nil {
			return nil, context.Cause(c.life)
		}
		if !s.ended() {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.life.Done():
		}
	}
}

func (c *Client) setSession(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = s
	close(c.changed)
	c.changed = make(chan struct{})
}

// track enters p among those that Close releases and events are told. It fails when the client is closed.
func (c *Client) track(p *Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.processes[p.id] = append(c.processes[p.id], p)
	return nil
}

func (c *Client) untrack(p *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := slices.DeleteFunc(c.processes[p.id], func(q *Process) bool { return q == p })
	if len(rest) == 0 {
		delete(c.processes, p.id)
		return
	}
	c.processes[p.id] = rest
}

func (c *Client) processesOf(id string) []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.processes[id])
}

func (c *Client) allProcesses() []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*Process
	for _, list := range c.processes {
		all = append(all, list...)
	}
	return all
}
