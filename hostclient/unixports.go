package hostclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// UnixPorts is the [Transport] of monitors that tie each vsock port to a unix socket of its own, fixed before the machine starts (libkrun, vfkit).
//
// The monitor connects to a host port's socket whenever the guest dials it, so the sockets exist from [NewUnixPorts] to Close and belong to the
// UnixPorts, however many clients come and go: what Listen gives is a lease on one. [Config.StdioPort] must name a host port.
type UnixPorts struct {
	guest map[uint32]string
	host  map[uint32]*sharedListener
}

// NewUnixPorts binds a socket for each host port. The maps go from port to path: guest for the ports on which the guest listens (the agent's,
// 1024, at least), host for those that it dials. The caller closes it.
func NewUnixPorts(guest, host map[uint32]string) (*UnixPorts, error) {
	t := &UnixPorts{guest: make(map[uint32]string), host: make(map[uint32]*sharedListener)}
	for port, path := range guest {
		t.guest[port] = path
	}
	for port, path := range host {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("cannot listen on host port %d: %w", port, err)
		}
		t.host[port] = newSharedListener(l)
	}
	return t, nil
}

// Dial connects to the socket of a guest port.
func (t *UnixPorts) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	path, ok := t.guest[port]
	if !ok {
		return nil, fmt.Errorf("cannot dial guest port %d: no socket is tied to it: %w", port, errors.ErrUnsupported)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot dial guest port %d: %w", port, err)
	}
	return conn, nil
}

// Listen leases the listener of a host port until the lease is closed. A port that is leased is in use; connections that come while
// nobody has leased it are closed.
func (t *UnixPorts) Listen(port uint32) (net.Listener, error) {
	l, ok := t.host[port]
	if !ok {
		return nil, fmt.Errorf("cannot listen on host port %d: no socket is tied to it: %w", port, errors.ErrUnsupported)
	}
	lease, err := l.lease()
	if err != nil {
		return nil, fmt.Errorf("cannot listen on host port %d: %w", port, err)
	}
	return lease, nil
}

// Close closes and removes the sockets. Leases end with net.ErrClosed; connections are not touched.
func (t *UnixPorts) Close() error {
	for _, l := range t.host {
		l.close()
	}
	return nil
}

// sharedListener accepts for whoever has the lease. Its one goroutine, accept, is joined by close.
type sharedListener struct {
	l    net.Listener
	done chan struct{} // closed when accept has returned

	mu      sync.Mutex
	current *lease // nil: nobody
	closed  bool
}

func newSharedListener(l net.Listener) *sharedListener {
	s := &sharedListener{l: l, done: make(chan struct{})}
	go s.accept()
	return s
}

func (s *sharedListener) accept() {
	defer close(s.done)
	for {
		conn, err := s.l.Accept()
		if err != nil {
			s.end()
			return
		}
		if to := s.holder(); to == nil || !to.hand(conn) {
			conn.Close()
		}
	}
}

func (s *sharedListener) holder() *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *sharedListener) lease() (*lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.current != nil {
		return nil, syscall.EADDRINUSE
	}
	s.current = &lease{from: s, conns: make(chan net.Conn), done: make(chan struct{})}
	return s.current, nil
}

// end refuses further leases and ends the current one, also where the listener failed by itself.
func (s *sharedListener) end() {
	s.mu.Lock()
	s.closed = true
	current := s.current
	s.mu.Unlock()
	if current != nil {
		current.Close()
	}
}

func (s *sharedListener) close() {
	s.end()
	s.l.Close()
	<-s.done
}

// lease is a net.Listener that gives back, and does not close, the socket.
type lease struct {
	from  *sharedListener
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *lease) hand(conn net.Conn) bool {
	select {
	case l.conns <- conn:
		return true
	case <-l.done:
		return false
	}
}

func (l *lease) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *lease) Addr() net.Addr { return l.from.l.Addr() }

func (l *lease) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.from.mu.Lock()
		defer l.from.mu.Unlock()
		l.from.current = nil
	})
	return nil
}
