package vsockdev

import (
	"net"
	"sync"
	"syscall"
)

// backlogSize is how many connections may wait for Accept. Further requests of the guest are reset.
const backlogSize = 128

// listener is a host port that the guest may dial.
type listener struct {
	dev  *Device
	addr Addr

	done    chan struct{} // closed by Close
	backlog chan *Conn

	mu     sync.Mutex // guards closed, and deliveries against it
	closed bool
	err    error // what Accept returns once closed
}

func newListener(d *Device, port uint32) *listener {
	return &listener{
		dev:     d,
		addr:    Addr{CID: HostCID, Port: port},
		done:    make(chan struct{}),
		backlog: make(chan *Conn, backlogSize),
	}
}

// Accept waits for a connection. After Close, or when the device ends, it returns an error that is net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.done:
		return nil, opError("accept", nil, l.addr, l.err)
	}
}

// Addr returns the host's address with the port.
func (l *listener) Addr() net.Addr { return l.addr }

// Close ends Accept and resets the connections that nobody has accepted.
func (l *listener) Close() error {
	if !l.end(net.ErrClosed) {
		return opError("close", nil, l.addr, net.ErrClosed)
	}
	l.dev.unlisten(l)
	return nil
}

// end closes the listener and reports whether it was open.
func (l *listener) end(err error) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.closed, l.err = true, err
	close(l.done)
	l.mu.Unlock()
	for {
		select {
		case c := <-l.backlog:
			c.reset(syscall.ECONNRESET)
		default:
			return true
		}
	}
}

// deliver hands a connection to Accept, or reports false when there is no room or nobody to take it.
func (l *listener) deliver(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	select {
	case l.backlog <- c:
		return true
	default:
		return false
	}
}
