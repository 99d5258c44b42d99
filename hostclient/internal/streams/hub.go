package streams

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

const (
	// maxUndecided bounds the connections that have not said their preamble yet. One more drops the oldest, so that silent ones delay nobody.
	maxUndecided = 64

	// acceptPause is the wait after an accept that failed: too many open files, most likely.
	acceptPause = 20 * time.Millisecond
)

// Hub accepts data connections on one listener and hands each to the Set that expects its token.
type Hub struct {
	l     net.Listener
	port  uint32
	check func(net.Conn) error
	log   *slog.Logger
	pool  *stdio.Pool // the rings of all stdins
	wg    sync.WaitGroup
	ctx   context.Context // ends with Close
	stop  context.CancelFunc

	mu        sync.Mutex
	expected  []*expectation
	undecided []net.Conn // oldest first
}

// expectation is one stream that the guest is to dial for, as often as it must until its Create or Attach is answered.
type expectation struct {
	again bool // it has arrived before; of its Set, under the mu there

	token protocol.Token
	busy  bool // a connection is being accepted

	// replace ends the connection that has arrived before, if there is one: the guest has given it up. The error says that it can't now.
	replace func(context.Context) error

	// check compares the preamble with what was asked for.
	check func(protocol.Preamble) error

	// arrived takes the connection, whose accept record is written.
	arrived func(net.Conn, protocol.Preamble)
}

// NewHub serves l, which the guest reaches at port. check, if not nil, refuses a connection by its peer (on AF_VSOCK, the CID) before a byte is
// read. The Hub owns l. A nil log logs nothing.
func NewHub(l net.Listener, port uint32, check func(net.Conn) error, log *slog.Logger) *Hub {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Hub{l: l, port: port, check: check, log: log, pool: stdio.NewPool(math.MaxInt64, nil, nil)}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.wg.Add(1)
	go h.serve()
	return h
}

// Close stops listening, drops undecided connections and joins the goroutines. Connections that Sets have are not touched.
func (h *Hub) Close() error {
	h.stop()
	err := h.l.Close()
	h.mu.Lock()
	for _, c := range h.undecided {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serve accepts until Close.
func (h *Hub) serve() {
	defer h.wg.Done()
	for h.ctx.Err() == nil {
		conn, err := h.l.Accept()
		if err == nil {
			h.consider(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		h.log.Warn("cannot accept data connection", "error", err)
		select {
		case <-h.ctx.Done():
		case <-time.After(acceptPause):
		}
	}
}

// consider decides about conn in a goroutine of its own.
func (h *Hub) consider(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		_ = conn.Close()
		return
	}
	if len(h.undecided) == maxUndecided {
		_ = h.undecided[0].Close()
		h.undecided = slices.Delete(h.undecided, 0, 1)
	}
	h.undecided = append(h.undecided, conn)
	h.wg.Go(func() {
		if err := h.decide(conn); err != nil {
			h.log.Debug("data connection refused", "error", err)
			_ = conn.Close()
		}
	})
}

// decide reads the preamble and accepts the connection if it is expected.
func (h *Hub) decide(conn net.Conn) error {
	p, err := h.readPreamble(conn)
	if err != nil {
		return err
	}
	e, err := h.claim(p.Token)
	if err != nil {
		return err
	}
	defer h.unclaim(e)
	if err := e.replace(h.ctx); err != nil {
		return err
	}
	if err := e.check(p); err != nil {
		return err
	}
	if err := h.accept(conn, p); err != nil {
		return err
	}
	e.arrived(conn, p)
	return nil
}

func (h *Hub) readPreamble(conn net.Conn) (protocol.Preamble, error) {
	defer h.decided(conn)
	if h.check != nil {
		if err := h.check(conn); err != nil {
			return protocol.Preamble{}, err
		}
	}
	if err := conn.SetDeadline(time.Now().Add(protocol.ConnectTimeout)); err != nil {
		return protocol.Preamble{}, err
	}
	return protocol.ReadPreamble(conn)
}

func (h *Hub) decided(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.undecided, conn); i >= 0 {
		h.undecided = slices.Delete(h.undecided, i, i+1)
	}
}

var errUnexpected = errors.New("no stream with this token is expected")

// claim finds the expectation of a token, looking at all of them whatever it finds, and reserves it.
func (h *Hub) claim(token protocol.Token) (*expectation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found *expectation
	for _, e := range h.expected {
		if e.token.Equal(token) {
			found = e
		}
	}
	if found == nil || found.busy {
		return nil, errUnexpected
	}
	found.busy = true
	return found, nil
}

func (h *Hub) unclaim(e *expectation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.busy = false
}

// accept answers. The deadline of the preamble still holds.
func (h *Hub) accept(conn net.Conn, p protocol.Preamble) error {
	if err := protocol.WriteAccept(conn, p); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

func (h *Hub) expect(e *expectation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expected = append(h.expected, e)
}

// withdraw ends an expectation, and reports false when a connection is about to meet it.
func (h *Hub) withdraw(e *expectation) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.expected, e); i >= 0 {
		h.expected = slices.Delete(h.expected, i, i+1)
	}
	return !e.busy
}
