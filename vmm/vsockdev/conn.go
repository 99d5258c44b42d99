package vsockdev

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// phase is where a connection stands.
type phase uint8

const (
	phaseRequested phase = iota // the host dialled; the guest has not answered
	phaseAccepting              // the guest dialled; the host has not answered
	phaseOpen
	phaseClosing // the host has closed; the guest has not confirmed
	phaseDead    // no longer in the device's table
)

// Control packets that a connection still has to send. They are bits and not a queue: a guest that takes no packets
// can't make them grow.
const (
	ctlRequest = 1 << iota
	ctlResponse
	ctlCredit
)

// Conn is a vsock connection between the host and the guest. It is a net.Conn whose errors are *net.OpError around
// net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET (the guest reset the connection, or went away) or
// syscall.EPIPE (the guest no longer reads), or io.EOF. Whoever gets a Conn closes it.
type Conn struct {
	dev           *Device
	key           connKey
	local, remote Addr
	answered      chan struct{} // closed when a dialled connection leaves phaseRequested

	readMu  sync.Mutex // one Read at a time
	writeMu sync.Mutex // one Write at a time

	// The sender's list of connections with something to send; guarded by sender.mu.
	next   *Conn
	queued bool

	mu        sync.Mutex
	phase     phase
	connected bool // a dialled connection was answered with yes
	closed    bool // Close was called
	ctl       uint8
	shutWant  uint32 // shutdown flags that the guest is to be told
	shutSent  uint32 // and those that it has been told
	shutPeer  uint32 // shutdown flags that the guest has sent
	faults    *faultLines

	// Guest to host. Counters are those of VIRTIO 1.2, section 5.10.6.3, and wrap around.
	readable     sync.Cond
	readDeadline deadline
	recv         recvBuffer
	direct       []byte // where a waiting Read wants its bytes
	directN      int    // bytes put there
	rxCnt        uint32 // bytes received
	fwdCnt       uint32 // bytes read or discarded
	fwdTold      uint32 // fwdCnt as the guest knows it
	readErr      error  // what Read returns once the buffer is empty
	// Host to guest.
	writable      sync.Cond
	writeDeadline deadline
	out           []byte // what is left of a waiting Write
	txCnt         uint32 // bytes sent
	peerFwdCnt    uint32
	peerBufAlloc  uint32
	writeErr      error // what Write returns
}

func newConn(d *Device, key connKey, p phase) *Conn {
	c := &Conn{
		dev:    d,
		key:    key,
		local:  Addr{CID: HostCID, Port: key.host},
		remote: Addr{CID: d.cfg.GuestCID, Port: key.guest},
		phase:  p,
	}
	c.readable.L, c.writable.L = &c.mu, &c.mu
	c.readDeadline.cond, c.writeDeadline.cond = &c.readable, &c.writable
	if p == phaseRequested {
		c.answered, c.ctl = make(chan struct{}), ctlRequest
	}
	if d.cfg.Fault != nil {
		c.faults = newFaultLines(d.cfg.Fault(ConnInfo{Local: c.local, Remote: c.remote, Dialed: p == phaseRequested}))
	}
	return c
}

// opError is opError with the connection's addresses. It costs nothing without an error.
func (c *Conn) opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return opError(op, c.local, c.remote, err)
}

// LocalAddr returns the host's end, an Addr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the guest's end, an Addr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Read reads what the guest has sent. Concurrent Reads take turns.
func (c *Conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	c.mu.Lock()
	n, err := c.read(p)
	credit := c.wantCredit()
	c.mu.Unlock()
	c.readMu.Unlock()
	if credit {
		c.dev.sender.wake(c)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, c.opError("read", err)
}

func (c *Conn) read(p []byte) (int, error) {
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.readDeadline.expired:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		if n := c.recv.read(&c.dev.chunks, p[:c.faults.readable(c, len(p))]); n > 0 {
			c.fwdCnt += uint32(n)
			c.faults.hasRead(n)
			return n, nil
		}
		if c.readErr != nil && c.recv.size == 0 {
			return 0, c.readErr
		}
		if c.faults == nil {
			c.direct = p
		}
		c.readable.Wait()
		n := c.directN
		c.direct, c.directN = nil, 0
		if n > 0 {
			return n, nil
		}
	}
}

// Write sends p. It returns when the guest's driver has all of it, and holds no reference to p then. Concurrent Writes
// take turns.
func (c *Conn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	n, err := c.write(p)
	c.writeMu.Unlock()
	return n, c.opError("write", err)
}

func (c *Conn) write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cannotWrite(); err != nil || len(p) == 0 {
		return 0, err
	}
	c.out = p
	// Whoever writes also fills the ring: no other goroutine has to run for it.
	c.mu.Unlock()
	c.dev.sender.wake(c)
	c.mu.Lock()
	var err error
	for len(c.out) > 0 {
		if err = c.cannotWrite(); err != nil {
			break
		}
		c.writable.Wait()
	}
	n := len(p) - len(c.out)
	c.out = nil
	return n, err
}

// cannotWrite says why a Write can't go on, if so.
func (c *Conn) cannotWrite() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.writeDeadline.expired:
		return os.ErrDeadlineExceeded
	}
	return c.writeErr
}

// CloseWrite tells the guest that nothing more will come: it reads end of file after the last byte. A Write that
// waits, and later ones, fail with EPIPE.
func (c *Conn) CloseWrite() error { return c.shutdown("close write", shutdownSend) }

// CloseRead discards what the guest has sent and will send, and tells it so: its writes fail with EPIPE. Reads return io.EOF.
func (c *Conn) CloseRead() error { return c.shutdown("close read", shutdownReceive) }

func (c *Conn) shutdown(op string, flags uint32) error {
	c.mu.Lock()
	err := c.startShutdown(flags)
	c.mu.Unlock()
	if err == nil {
		c.dev.sender.wake(c)
	}
	return c.opError(op, err)
}

func (c *Conn) startShutdown(flags uint32) error {
	if c.closed {
		return net.ErrClosed
	}
	if c.phase != phaseOpen {
		return syscall.ENOTCONN
	}
	c.stop(flags)
	return nil
}

// stop ends one or both directions from the host's side.
func (c *Conn) stop(flags uint32) {
	c.shutWant |= flags
	if flags&shutdownReceive != 0 {
		c.discard()
		c.readErr = io.EOF
		c.readable.Broadcast()
	}
	if flags&shutdownSend != 0 {
		if c.writeErr == nil {
			c.writeErr = syscall.EPIPE
		}
		c.writable.Broadcast()
	}
}

// discard drops what is buffered. It counts as read: a guest that waits for credit would otherwise never wake.
func (c *Conn) discard() {
	c.fwdCnt += uint32(c.recv.clear(&c.dev.chunks))
}

// Close ends both directions. What Write has accepted still reaches the guest. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	c.readDeadline.stop()
	c.writeDeadline.stop()
	wasOpen := c.phase == phaseOpen
	if wasOpen {
		c.phase = phaseClosing
	}
	c.stop(shutdownBoth)
	c.mu.Unlock()
	if wasOpen {
		c.dev.lingering.add(c)
		c.dev.sender.wake(c)
	}
	return nil
}

// reset ends the connection at once, and tells the guest.
func (c *Conn) reset(err error) {
	c.mu.Lock()
	alive := c.phase != phaseDead
	c.end(err, err)
	c.mu.Unlock()
	if alive {
		c.dev.forget(c)
		c.dev.sender.reset(c.key)
	}
}

// end makes the connection dead on the host's side. Bytes that arrived before can still be read. The caller holds c.mu,
// and removes the connection from the device's table.
func (c *Conn) end(readErr, writeErr error) {
	if c.phase == phaseRequested {
		close(c.answered)
	}
	c.phase = phaseDead
	c.ctl = 0
	if c.readErr == nil {
		c.readErr = readErr
	}
	if c.writeErr == nil {
		c.writeErr = writeErr
	}
	c.readable.Broadcast()
	c.writable.Broadcast()
}

// SetDeadline sets the deadline of Reads and Writes, waiting ones and later ones; the zero time is none.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadline(t, true, true) }

// SetReadDeadline sets the deadline of Reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, true, false) }

// SetWriteDeadline sets the deadline of Writes. A Write that times out returns how many bytes the guest has.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, false, true) }

func (c *Conn) setDeadline(t time.Time, read, write bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	if read {
		c.readDeadline.set(t)
	}
	if write {
		c.writeDeadline.set(t)
	}
	return nil
}

func (c *Conn) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == phaseDead
}

// confirm accepts a connection that the guest has asked for, and reports false when it is over already.
func (c *Conn) confirm() bool {
	c.mu.Lock()
	ok := c.phase == phaseAccepting
	if ok {
		c.phase = phaseOpen
		c.ctl |= ctlResponse
	}
	c.mu.Unlock()
	if ok {
		c.dev.sender.wake(c)
	}
	return ok
}

// waitWriteEnd waits until Writes fail for good.
func (c *Conn) waitWriteEnd() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writeErr == nil {
		c.writable.Wait()
	}
}
