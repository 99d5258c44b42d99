package vsockdev

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
)

// firstDialPort is where the ports that Dial and Listen choose begin; those below are for applications.
const firstDialPort = 1 << 30

// Device is a vsock device for one virtual machine. Its methods may be called from several goroutines.
type Device struct {
	cfg       Config
	log       *slog.Logger
	stats     counters
	chunks    chunkPool
	sender    sender
	receiver  receiver
	lingering lingering
	frontend  io.Closer      // our end of the socket
	served    sync.WaitGroup // the front end's goroutine

	mu        sync.Mutex
	monitor   *os.File // QEMU's end of the socket until TakeSocket
	conns     map[connKey]*Conn
	listeners map[uint32]*listener
	fallback  func(*Conn) bool // takes connections to ports that nobody listens on; nil without ServeHybrid
	onEnd     func()           // ends ServeHybrid when the device ends; nil without
	nextPort  uint32
	up        bool
	held      bool          // Hold was called
	ready     chan struct{} // closed while up
	err       error         // why the device has ended
}

// New makes a device and starts serving its end of the socket. The caller closes it. On systems other than Linux it
// returns errors.ErrUnsupported.
func New(cfg *Config) (*Device, error) {
	c, err := cfg.resolve()
	if err != nil {
		return nil, fmt.Errorf("cannot make vsock device: %w", err)
	}
	d := &Device{
		cfg:       c,
		log:       c.Logger,
		conns:     make(map[connKey]*Conn),
		listeners: make(map[uint32]*listener),
		nextPort:  firstDialPort,
		ready:     make(chan struct{}),
	}
	d.sender.dev, d.receiver.dev = d, d
	if err := d.startFrontend(); err != nil {
		return nil, fmt.Errorf("cannot make vsock device: %w", err)
	}
	return d, nil
}

// TakeSocket returns the monitor's end of the vhost-user socket, for QEMU's -chardev socket,id=…,fd=…. It can be taken
// once. The caller closes it after it has started the monitor: while a copy is open here, the device can't notice that
// the monitor has gone.
func (d *Device) TakeSocket() (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.monitor
	if f == nil {
		return nil, fmt.Errorf("cannot take the device's socket: %w", os.ErrClosed)
	}
	d.monitor = nil
	return f, nil
}

// Ready returns a channel that is closed once the guest's driver is up. After the driver has gone down (a reboot, for
// example) Ready returns a new channel.
func (d *Device) Ready() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ready
}

// Dial connects to a port of the guest. It returns a *Conn, or a *net.OpError around ErrNotReady when the driver is not
// up, ErrFrontendGone, net.ErrClosed, syscall.ECONNREFUSED when the guest refuses, syscall.EMFILE when there are too many
// connections, or the context's error.
func (d *Device) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	c, err := d.dial(ctx, port)
	if err != nil {
		return nil, opError("dial", nil, Addr{CID: d.cfg.GuestCID, Port: port}, err)
	}
	return c, nil
}

func (d *Device) dial(ctx context.Context, port uint32) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := d.request(port)
	if err != nil {
		return nil, err
	}
	d.sender.wake(c)
	select {
	case <-c.answered:
	case <-ctx.Done():
		c.reset(ctx.Err())
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.connected {
		return nil, c.readErr
	}
	d.stats.dialed.Add(1)
	return c, nil
}

// request puts a connection to a guest's port into the table, which has yet to be requested.
func (d *Device) request(port uint32) (*Conn, error) {
	d.mu.Lock()
	host := d.choosePort(func(p uint32) bool { return d.conns[connKey{p, port}] != nil })
	d.mu.Unlock()
	c := newConn(d, connKey{host: host, guest: port}, phaseRequested)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return nil, d.err
	case !d.up:
		return nil, ErrNotReady
	case len(d.conns) >= d.cfg.MaxConnections:
		return nil, syscall.EMFILE
	}
	d.conns[c.key] = c
	return c, nil
}

// choosePort returns the next free port. The caller holds mu.
func (d *Device) choosePort(taken func(uint32) bool) uint32 {
	for {
		p := d.nextPort
		d.nextPort++
		if d.nextPort == portAny {
			d.nextPort = firstDialPort
		}
		if !taken(p) {
			return p
		}
	}
}

// portAny is VMADDR_PORT_ANY.
const portAny = 1<<32 - 1

// Listen lets the guest dial a port of the host (CID 2). Port 0 chooses a free one above 2^30. Up to 128 connections
// wait for Accept; more are reset. The caller closes the listener, whose Accept returns *Conn.
func (d *Device) Listen(port uint32) (net.Listener, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, opError("listen", nil, Addr{HostCID, port}, d.err)
	}
	if port == 0 {
		port = d.choosePort(func(p uint32) bool { return d.listeners[p] != nil })
	}
	if d.listeners[port] != nil || port == portAny {
		return nil, opError("listen", nil, Addr{HostCID, port}, syscall.EADDRINUSE)
	}
	l := newListener(d, port)
	d.listeners[port] = l
	return l, nil
}

func (d *Device) unlisten(l *listener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listeners[l.addr.Port] == l {
		delete(d.listeners, l.addr.Port)
	}
}

// accept makes a connection that the guest asked for, or returns nil when it can't have it.
func (d *Device) accept(key connKey, h *header) *Conn {
	d.mu.Lock()
	l, fallback := d.listeners[key.host], d.fallback
	refused := l == nil && fallback == nil || len(d.conns) >= d.cfg.MaxConnections || d.err != nil
	d.mu.Unlock()
	if refused {
		return nil
	}
	c := newConn(d, key, phaseAccepting)
	c.peerBufAlloc = h.bufAlloc
	if l != nil {
		c.phase, c.ctl = phaseOpen, ctlResponse
	}
	// Only the receiver's worker adds connections of the guest, so there is still room, but for what Dial took meanwhile.
	d.mu.Lock()
	d.conns[key] = c
	d.mu.Unlock()
	taken := false
	if l != nil {
		taken = l.deliver(c)
	} else {
		taken = fallback(c)
	}
	if !taken {
		d.forget(c)
		return nil
	}
	d.stats.accepted.Add(1)
	return c
}

func (d *Device) lookup(key connKey) *Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conns[key]
}

// forget removes a dead connection from the table.
func (d *Device) forget(c *Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns[c.key] == c {
		delete(d.conns, c.key)
	}
}

// Stats returns the device's counters.
func (d *Device) Stats() Stats {
	s := d.stats.snapshot()
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Connections = len(d.conns)
	return s
}

// ResetConnections resets every connection on both sides, which is what happens to them when a snapshot of the machine
// is restored. Listeners stay.
func (d *Device) ResetConnections() {
	for _, c := range d.takeConns() {
		c.reset(syscall.ECONNRESET)
	}
}

// takeConns returns all connections.
func (d *Device) takeConns() []*Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	conns := make([]*Conn, 0, len(d.conns))
	for _, c := range d.conns {
		conns = append(conns, c)
	}
	return conns
}

// Close ends every connection and listener and the device itself. When it returns, no goroutine of the device runs and
// no guest memory is mapped. Connections that are still held must be closed by their owners, but fail at once.
func (d *Device) Close() error {
	d.fail(net.ErrClosed)
	d.served.Wait()
	d.lingering.end()
	if f, err := d.TakeSocket(); err == nil {
		f.Close()
	}
	return nil
}
