package vsockdev

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// checkAlive proves that the device still serves: a new connection carries bytes both ways.
func (g *fakeGuest) checkAlive() {
	g.t.Helper()
	const guestPort = 60000
	l := g.listen()
	defer l.Close()
	c := g.connect(l, guestPort)
	defer func() {
		c.Close()
		g.receive(opShutdown)
		g.send(packet(opReset, c.local.Port, guestPort), nil)
	}()
	g.send(packet(opReadWrite, c.local.Port, guestPort), []byte("ping"))
	var buf [8]byte
	if n, err := c.Read(buf[:]); string(buf[:n]) != "ping" || err != nil {
		g.t.Fatalf("Read = %q, %v; want ping, nil", buf[:n], err)
	}
	if n, err := c.Write([]byte("pong")); n != 4 || err != nil {
		g.t.Fatalf("Write = %d, %v; want 4, nil", n, err)
	}
	if _, data := g.receive(opReadWrite); string(data) != "pong" {
		g.t.Fatalf("guest received %q; want pong", data)
	}
}

func TestHostileChains(t *testing.T) {
	const at = fakeGuestAt + fakeTXBufAt
	tests := []struct {
		name  string
		chain []fakeDesc
	}{
		{"indirect", []fakeDesc{{at, headerSize, descIndirect, 0}}},
		{"writable", []fakeDesc{{at, headerSize, descWrite, 0}}},
		{"writable payload", []fakeDesc{{at, headerSize, descNext, 1}, {at + 64, 100, descWrite, 0}}},
		{"empty", []fakeDesc{{at, 0, 0, 0}}},
		{"short header", []fakeDesc{{at, headerSize - 1, 0, 0}}},
		{"below memory", []fakeDesc{{fakeGuestAt - 1, headerSize, 0, 0}}},
		{"behind memory", []fakeDesc{{fakeGuestAt + fakeMemory, headerSize, 0, 0}}},
		{"across the end", []fakeDesc{{fakeGuestAt + fakeMemory - 10, headerSize, 0, 0}}},
		{"address overflow", []fakeDesc{{^uint64(0) - 10, headerSize, 0, 0}}},
		{"4 GiB", []fakeDesc{{at, ^uint32(0), 0, 0}}},
		{"loop", []fakeDesc{{at, headerSize, descNext, 1}, {at, headerSize, descNext, 0}}},
		{"self loop", []fakeDesc{{at, headerSize, descNext, 0}}},
		{"next out of range", []fakeDesc{{at, headerSize, descNext, fakeRing}}},
	}
	g := newFakeGuest(t, nil)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g.sendChain(tt.chain...)
			if n := g.dev.Stats().BadChains; n != uint64(i+1) {
				t.Errorf("BadChains = %d; want %d", n, i+1)
			}
			g.checkAlive()
		})
	}
}

func TestHostileHead(t *testing.T) {
	g := newFakeGuest(t, nil)
	g.tx.offer(fakeRing) // no such descriptor: nothing comes back
	g.tx.notify()
	g.checkAlive()
	if n := g.dev.Stats().BadChains; n != 1 {
		t.Errorf("BadChains = %d; want 1", n)
	}
}

// TestHostileReceiveBuffers offers buffers to the host that it can't use, before good ones.
func TestHostileReceiveBuffers(t *testing.T) {
	g := newFakeFrontend(t, nil)
	g.start()
	const at = fakeGuestAt + fakeRXBufAt
	bad := []fakeDesc{
		{at, 4096, 0, 0},                    // readable
		{at, headerSize, descWrite, 0},      // no room for data
		{at, 4096, descWrite | descNext, 4}, // loop
		{fakeGuestAt + fakeMemory - 1, 4096, descWrite, 0},
		{at, 4096, descWrite | descNext, 4},
		{at, 4096, descWrite | descIndirect, 0},
	}
	for i, d := range bad {
		g.rx.setDesc(2*i, d)
		g.rx.offer(uint16(2 * i))
	}
	for i := len(bad); i < fakeRing/2; i++ {
		g.offerRX(uint16(2 * i))
	}
	g.rx.notify()
	l := g.listen()
	g.send(packet(opRequest, l.Addr().(Addr).Port, 1), nil)
	for i := range bad {
		if head, n, ok := g.rx.takeUsed(fakeTimeout); head != uint32(2*i) || n != 0 || !ok {
			t.Errorf("bad buffer %d came back as %d, %d, %t; want %d, 0, true", i, head, n, ok, 2*i)
		}
	}
	g.receive(opResponse)
	g.checkAlive()
}

// TestHostileIndex jumps with the available index. The ring is dead then, but the device works again once the driver has
// set itself up anew.
func TestHostileIndex(t *testing.T) {
	for _, q := range []string{"rx", "tx"} {
		t.Run(q, func(t *testing.T) {
			g := newFakeGuest(t, nil)
			bad := map[string]*fakeQueue{"rx": g.rx, "tx": g.tx}[q]
			bad.setAvailIdx(bad.availIdx + fakeRing + 1)
			bad.notify()
			g.dev.sender.reset(connKey{1, 1}) // makes the host look at the ring
			waitUntil(t, "the ring to be stopped", func() bool {
				queue := map[string]*queue{"rx": &g.dev.sender.queue, "tx": &g.dev.receiver.queue}[q]
				queue.mu.Lock()
				defer queue.mu.Unlock()
				return queue.ring == nil
			})
			g.restart()
			g.checkAlive()
		})
	}
}

// TestEndlessBadChains: a guest that offers bad chains without end can't keep the device from ending.
func TestEndlessBadChains(t *testing.T) {
	g := newFakeGuest(t, nil)
	g.tx.setDesc(0, fakeDesc{fakeGuestAt, headerSize, descIndirect, 0})
	_, _, used := g.tx.addrs()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				// Every available entry names descriptor 0.
				g.tx.setAvailIdx(loadIndex(g.mem[used:]) + fakeRing)
				g.tx.notify()
			}
		}
	}()
	waitUntil(t, "bad chains", func() bool { return g.dev.Stats().BadChains > 10*fakeRing })
	g.must(g.dev.Close())
	close(stop)
	<-stopped
}

// restart stops the rings as a reboot does, and brings the driver up again with empty ones.
func (g *fakeGuest) restart() {
	g.t.Helper()
	for _, q := range []*fakeQueue{g.rx, g.tx} {
		g.must(g.tell(msgSetVringEnable, 0, u32s(q.index, 0)))
	}
	for _, q := range []*fakeQueue{g.rx, g.tx} {
		g.ask(msgGetVringBase, 0, u32s(q.index, 0))
		clear(g.mem[q.at:][:0x4000])
		q.availIdx, q.usedSeen = 0, 0
	}
	g.start()
	for i := range fakeRing / 2 {
		g.offerRX(uint16(2 * i))
	}
	g.rx.notify()
}

func TestHostilePackets(t *testing.T) {
	const guestPort = 5
	alter := func(op uint16, f func(*header)) func(*header) {
		return func(h *header) {
			h.op = op
			if f != nil {
				f(h)
			}
		}
	}
	tests := []struct {
		name   string
		change func(*header)
		data   int
		broken bool // the connection is reset
	}{
		{"wrong source", alter(opReadWrite, func(h *header) { h.srcCID = 4 }), 1, false},
		{"wrong destination", alter(opReadWrite, func(h *header) { h.dstCID = 7 }), 1, false},
		{"operation 0", alter(0, nil), 0, true},
		{"operation 8", alter(8, nil), 0, true},
		{"operation 65535", alter(65535, nil), 0, true},
		{"second request", alter(opRequest, nil), 0, true},
		{"response not asked for", alter(opResponse, nil), 0, true},
		{"length beyond the chain", alter(opReadWrite, func(h *header) { h.length = 101 }), 100, true},
		{"length of 4 GiB", alter(opReadWrite, func(h *header) { h.length = ^uint32(0) }), 100, true},
		{"control with data", alter(opCreditUpdate, func(h *header) { h.length = 100 }), 100, true},
		{"read what was not sent", alter(opCreditUpdate, func(h *header) { h.fwdCnt = 1 }), 0, true},
		{"read half of all numbers", alter(opCreditUpdate, func(h *header) { h.fwdCnt = 1<<31 - 1 }), 0, true},
		{"old credit", alter(opCreditUpdate, func(h *header) { h.fwdCnt = ^uint32(0) }), 0, false},
		{"no buffer", alter(opCreditUpdate, func(h *header) { h.bufAlloc = 0 }), 0, false},
		{"unknown shutdown flags", alter(opShutdown, func(h *header) { h.flags = ^uint32(3) }), 0, false},
		{"empty data", alter(opReadWrite, nil), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newFakeGuest(t, nil)
			c := g.connect(g.listen(), guestPort)
			h := packet(opReadWrite, c.local.Port, guestPort)
			tt.change(&h)
			g.send(h, make([]byte, tt.data))
			if tt.broken {
				g.receive(opReset)
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("Read = %v; want ECONNRESET", err)
				}
			} else {
				g.send(packet(opReadWrite, c.local.Port, guestPort), []byte("x"))
				if n, err := c.Read(make([]byte, 9)); n != 1 || err != nil {
					t.Errorf("Read = %d, %v; want 1, nil", n, err)
				}
			}
			g.checkAlive()
		})
	}
}

// TestHostileType: a packet of a socket type that was not negotiated is answered with a reset of that type.
func TestHostileType(t *testing.T) {
	g := newFakeGuest(t, nil)
	h := packet(opRequest, 1, 1)
	h.kind = 2
	g.send(h, nil)
	if got, _ := g.receive(opReset); got.kind != 2 || got.srcPort != 1 || got.dstPort != 1 {
		t.Errorf("answer is %+v; want type 2, ports 1 and 1", got)
	}
	g.checkAlive()
}

// TestHostileCredit sends more than the host has offered room for.
func TestHostileCredit(t *testing.T) {
	const room = 8 << 10
	g := newFakeGuest(t, &Config{ReceiveBuffer: room})
	c := g.connect(g.listen(), 1)
	g.send(packet(opReadWrite, c.local.Port, 1), make([]byte, room))
	if s := g.dev.Stats(); s.Violations != 0 {
		t.Fatalf("Violations = %d after a full buffer; want 0", s.Violations)
	}
	g.send(packet(opReadWrite, c.local.Port, 1), make([]byte, 1))
	g.receive(opReset)
	got, err := io.ReadAll(c)
	if len(got) != room || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ReadAll = %d bytes, %v; want %d, ECONNRESET", len(got), err, room)
	}
	g.checkAlive()
}

// TestGuestTakesNothing: a guest that offers no buffer makes nobody wait beyond their own limit, and the host keep
// a bounded number of answers.
func TestGuestTakesNothing(t *testing.T) {
	cfg := &Config{MaxConnections: 8}
	g := newFakeFrontend(t, cfg)
	g.start()
	for i := range uint32(2 * (8 + spareResets)) {
		g.send(packet(opReadWrite, 1, i), []byte("x"))
	}
	s := g.dev.Stats()
	if s.ResetsDropped == 0 || len(g.dev.sender.resets) > 8+spareResets {
		t.Errorf("%d resets wait and %d were dropped; want at most %d and some", len(g.dev.sender.resets), s.ResetsDropped, 8+spareResets)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := g.dev.Dial(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial = %v; want a timeout", err)
	}
	l := g.listen()
	g.send(packet(opRequest, l.Addr().(Addr).Port, 1), nil)
	c, err := l.Accept()
	g.must(err)
	c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write = %d, %v; want 0, a timeout", n, err)
	}
	g.must(c.Close())
	g.must(l.Close())
	for i := range fakeRing / 2 { // and all is well when it does take something
		g.offerRX(uint16(2 * i))
	}
	g.rx.notify()
	for range 8 + spareResets {
		if h, _, ok := g.tryReceive(fakeTimeout); !ok || h.op != opReset {
			t.Fatalf("received %+v, %t; want a reset", h, ok)
		}
	}
	g.receive(opResponse)
	g.receive(opShutdown)
	g.send(packet(opReset, c.LocalAddr().(Addr).Port, 1), nil)
	g.checkAlive()
}

func TestTooManyConnections(t *testing.T) {
	g := newFakeGuest(t, &Config{MaxConnections: 3})
	l := g.listen()
	for i := range uint32(3) {
		g.connect(l, i)
	}
	g.send(packet(opRequest, l.Addr().(Addr).Port, 3), nil)
	g.receive(opReset)
	if _, err := g.dev.Dial(t.Context(), 1); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Dial = %v; want EMFILE", err)
	}
	if s := g.dev.Stats(); s.Connections != 3 || s.Refused != 1 {
		t.Errorf("Stats = %d connections, %d refused; want 3, 1", s.Connections, s.Refused)
	}
}

func TestBacklog(t *testing.T) {
	g := newFakeGuest(t, nil)
	l := g.listen()
	port := l.Addr().(Addr).Port
	for i := range uint32(backlogSize) {
		g.send(packet(opRequest, port, i), nil)
		g.receive(opResponse)
	}
	g.send(packet(opRequest, port, backlogSize), nil)
	g.receive(opReset)
	g.must(l.Close())
	for range backlogSize {
		g.receive(opReset)
	}
	if n := g.dev.Stats().Connections; n != 0 {
		t.Errorf("%d connections after the listener was closed; want 0", n)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v; want net.ErrClosed", err)
	}
	g.checkAlive()
}

// TestMemoryTruncated takes the guest's memory away. The device must end; the process must not.
func TestMemoryTruncated(t *testing.T) {
	for _, who := range []string{"worker", "caller"} {
		t.Run(who, func(t *testing.T) {
			g := newFakeGuest(t, nil)
			l := g.listen()
			c := g.connect(l, 1)
			// Take the pages away from the device's mapping while ours is not touched any more.
			g.must(syscall.Ftruncate(g.memFD, 0))
			if who == "worker" {
				g.tx.notify()
			} else if _, err := c.Write([]byte("x")); err == nil {
				t.Error("Write into memory that is gone = nil; want an error")
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Read = %v; want ECONNRESET", err)
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept = %v; want net.ErrClosed", err)
			}
			if _, err := g.dev.Dial(t.Context(), 1); err == nil {
				t.Error("Dial = nil; want an error")
			}
			g.must(g.dev.Close())
		})
	}
}

// waitUntil polls a condition.
func waitUntil(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(fakeTimeout); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}
