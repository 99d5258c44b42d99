package vsockdev

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
)

// setUp notes that the guest's driver has come up.
func (d *Device) setUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.up && d.err == nil {
		d.up = true
		close(d.ready)
	}
}

// Hold says that the VM is about to be paused. A monitor stops the device's queues then, which without Hold means that
// the driver has gone, and ends every connection. In between Dial returns ErrNotReady, and Writes wait. Connections go on
// where they were once the queues run again, unless the guest was reset meanwhile.
func (d *Device) Hold() { d.setHeld(true) }

// Unhold says that the VM has been resumed: it undoes Hold. Call it when the monitor has confirmed, not before.
func (d *Device) Unhold() { d.setHeld(false) }

func (d *Device) setHeld(held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = held
}

// suspend notes that the queues have stopped, and reports whether connections are to be kept.
func (d *Device) suspend() (held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held && d.up {
		d.up = false
		d.ready = make(chan struct{})
	}
	return d.held
}

// setDown notes that the guest's driver has gone, and with it every connection.
func (d *Device) setDown(reason error) {
	d.mu.Lock()
	if d.up {
		d.up = false
		d.ready = make(chan struct{})
	}
	conns := d.conns
	d.conns = make(map[connKey]*Conn)
	d.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		c.end(reason, reason)
		c.mu.Unlock()
	}
	d.sender.drop()
}

// fail ends the device: it notes the first reason, and lets the front end's goroutine clean up. The caller may hold ring locks.
func (d *Device) fail(err error) {
	d.mu.Lock()
	first := d.err == nil
	if first {
		d.err = err
	}
	d.mu.Unlock()
	if first {
		d.frontend.Close()
	}
}

// recoverFault is deferred where guest memory is touched, with what debug.SetPanicOnFault(true) returned. A fault in guest
// memory, which a monitor causes that truncates the file behind it, then ends the device instead of the process.
func (d *Device) recoverFault(old bool) {
	debug.SetPanicOnFault(old)
	v := recover()
	if v == nil {
		return
	}
	fault, ok := v.(interface {
		error
		Addr() uintptr // only memory faults have it
	})
	if !ok {
		panic(v)
	}
	d.log.Error("vsock device ended", "error", fault)
	d.fail(fmt.Errorf("cannot access guest memory: %w", fault))
}

// endListeners makes Accept fail everywhere.
func (d *Device) endListeners() {
	d.mu.Lock()
	err := d.err
	listeners := d.listeners
	d.listeners = make(map[uint32]*listener)
	onEnd := d.onEnd
	d.mu.Unlock()
	if onEnd != nil {
		onEnd()
	}
	if !errors.Is(err, net.ErrClosed) {
		err = fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	for _, l := range listeners {
		l.end(err)
	}
}

// setFallback has f take connections to ports that nobody listens on, without blocking, and onEnd called when the device ends.
func (d *Device) setFallback(f func(*Conn) bool, onEnd func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return d.err
	case d.fallback != nil:
		return errServing
	}
	d.fallback, d.onEnd = f, onEnd
	return nil
}

func (d *Device) clearFallback() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fallback, d.onEnd = nil, nil
}

// endReason returns why the device has ended, nil if it has not.
func (d *Device) endReason() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}
