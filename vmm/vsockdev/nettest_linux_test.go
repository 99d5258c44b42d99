package vsockdev

import (
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// TestConn checks connections against package net's expectations. Two devices are connected as by a crossover cable: what
// one sends to its guest the other receives from its own. Both ends are then the device's, with all of the rings between.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b, cut := crossover(t)
		l, err := b.dev.Listen(0)
		if err != nil {
			return nil, nil, nil, err
		}
		c1, err = a.dev.Dial(t.Context(), l.Addr().(Addr).Port)
		if err != nil {
			return nil, nil, nil, err
		}
		if c2, err = l.Accept(); err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() {
			c1.Close()
			c2.Close()
			l.Close()
			cut()
		}, nil
	})
}

// crossover returns two guests that pass each other's packets on until cut.
func crossover(t *testing.T) (a, b *fakeGuest, cut func()) {
	a, b = newFakeGuest(t, nil), newFakeGuest(t, nil)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { pass(a, b, done) })
	wg.Go(func() { pass(b, a, done) })
	return a, b, sync.OnceFunc(func() {
		close(done)
		for _, g := range []*fakeGuest{a, b} {
			g.dev.Close()
			g.rx.call.SetReadDeadline(time.Now())
		}
		wg.Wait()
	})
}

// pass gives every packet that from receives to the other's device.
func pass(from, to *fakeGuest, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		h, data, ok := from.tryReceive(50 * time.Millisecond)
		if !ok {
			continue
		}
		h.srcCID, h.dstCID = h.dstCID, h.srcCID
		h.encode(to.mem[fakeTXBufAt:])
		copy(to.mem[fakeTXBufAt+headerSize:], data)
		to.tx.setDesc(0, fakeDesc{fakeGuestAt + fakeTXBufAt, uint32(headerSize + len(data)), 0, 0})
		to.tx.offer(0)
		to.tx.notify()
		for {
			if _, _, ok := to.tx.takeUsed(50 * time.Millisecond); ok {
				break
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}
}
