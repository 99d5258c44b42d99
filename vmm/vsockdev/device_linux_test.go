package vsockdev

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	tests := []struct {
		cfg  *Config
		want string
	}{
		{nil, ""},
		{&Config{GuestCID: 2}, "guest CID"},
		{&Config{GuestCID: 1<<32 - 1}, "guest CID"},
		{&Config{ReceiveBuffer: 1}, "receive buffer"},
		{&Config{ReceiveBuffer: 1 << 31}, "receive buffer"},
		{&Config{MaxConnections: -1}, "connections"},
	}
	for _, tt := range tests {
		d, err := New(tt.cfg)
		if err == nil {
			d.Close()
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%+v) = %v; want an error about %q", tt.cfg, err, tt.want)
		}
	}
}

// TestLifecycle checks the states before, between and after drivers.
func TestLifecycle(t *testing.T) {
	g := newFakeFrontend(t, nil)
	if _, err := g.dev.Dial(t.Context(), 1); !errors.Is(err, ErrNotReady) {
		t.Errorf("Dial before the driver = %v; want ErrNotReady", err)
	}
	if _, err := g.dev.TakeSocket(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second TakeSocket = %v; want os.ErrClosed", err)
	}
	l := g.listen()
	g.start()
	for i := range fakeRing / 2 {
		g.offerRX(uint16(2 * i))
	}
	c := g.connect(l, 1)
	ready := g.dev.Ready()
	g.must(g.tell(msgSetVringEnable, 0, u32s(0, 0)))
	if base := g.ask(msgGetVringBase, 0, u32s(0, 0)); !bytes.Equal(base, u32s(0, 1)) {
		t.Errorf("base of the queue = % x; want 1 packet taken", base)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Write after the driver has stopped = %v; want ECONNRESET", err)
	}
	if _, err := g.dev.Dial(t.Context(), 1); !errors.Is(err, ErrNotReady) {
		t.Errorf("Dial after the driver has stopped = %v; want ErrNotReady", err)
	}
	if g.dev.Ready() == ready {
		t.Error("Ready is still the old channel")
	}
	g.restart()
	g.connect(l, 1) // the listener has survived
	g.checkAlive()
	g.conn.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) || !errors.Is(err, ErrFrontendGone) {
		t.Errorf("Accept without a monitor = %v; want net.ErrClosed and ErrFrontendGone", err)
	}
	if _, err := g.dev.Dial(t.Context(), 1); !errors.Is(err, ErrFrontendGone) {
		t.Errorf("Dial without a monitor = %v; want ErrFrontendGone", err)
	}
}

// TestHold stops the rings as a paused VM does: its connections go on, unless the guest was reset in its pause.
func TestHold(t *testing.T) {
	pause := func(g *fakeGuest) {
		g.dev.Hold()
		for _, q := range []*fakeQueue{g.rx, g.tx} {
			g.must(g.tell(msgSetVringEnable, 0, u32s(q.index, 0)))
		}
		for _, q := range []*fakeQueue{g.rx, g.tx} {
			g.ask(msgGetVringBase, 0, u32s(q.index, 0))
		}
	}
	t.Run("resumed", func(t *testing.T) {
		g := newFakeGuest(t, nil)
		c := g.connect(g.listen(), 1)
		pause(g)
		if _, err := g.dev.Dial(t.Context(), 1); !errors.Is(err, ErrNotReady) {
			t.Errorf("Dial in the pause = %v; want ErrNotReady", err)
		}
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte("waits"))
			wrote <- err
		}()
		g.resume()
		g.dev.Unhold()
		if _, data := g.receive(opReadWrite); string(data) != "waits" {
			t.Errorf("guest received %q; want waits", data)
		}
		if err := <-wrote; err != nil {
			t.Errorf("Write = %v; want nil", err)
		}
		g.checkAlive()
	})
	t.Run("reset", func(t *testing.T) {
		g := newFakeGuest(t, nil)
		c := g.connect(g.listen(), 1)
		pause(g)
		g.restart()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read = %v; want ECONNRESET", err)
		}
		g.checkAlive()
	})
}

// resume starts the rings where the device has left them, as QEMU does after a pause.
func (g *fakeGuest) resume() {
	g.t.Helper()
	for _, q := range []*fakeQueue{g.rx, g.tx} {
		_, _, used := q.addrs()
		idx := q.availIdx
		q.availIdx = loadIndex(g.mem[used:]) // every chain that was taken has been given back
		q.setUp()
		q.availIdx = idx
	}
	for _, q := range []*fakeQueue{g.rx, g.tx} {
		g.ask(msgSetVringEnable, flagNeedReply, u32s(q.index, 1))
	}
	<-g.dev.Ready()
}

func TestDial(t *testing.T) {
	g := newFakeGuest(t, nil)
	dial := func(ctx context.Context) <-chan error {
		done := make(chan error, 1)
		go func() {
			c, err := g.dev.Dial(ctx, 9)
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			done <- err
		}()
		return done
	}
	t.Run("accepted", func(t *testing.T) {
		done := dial(t.Context())
		h, _ := g.receive(opRequest)
		g.send(packet(opResponse, h.srcPort, h.dstPort), nil)
		if err := <-done; err != nil {
			t.Errorf("Dial = %v; want nil", err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		done := dial(t.Context())
		h, _ := g.receive(opRequest)
		g.send(packet(opReset, h.srcPort, h.dstPort), nil)
		if err := <-done; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial = %v; want ECONNREFUSED", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := dial(ctx)
		h, _ := g.receive(opRequest)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Dial = %v; want context.Canceled", err)
		}
		g.receive(opReset)
		g.send(packet(opResponse, h.srcPort, h.dstPort), nil) // too late
		g.receive(opReset)
	})
	t.Run("stopped", func(t *testing.T) {
		done := dial(t.Context())
		g.receive(opRequest)
		g.restart()
		if err := <-done; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Dial = %v; want ECONNRESET", err)
		}
	})
}

func TestShutdown(t *testing.T) {
	g := newFakeGuest(t, nil)
	l := g.listen()
	t.Run("guest closes", func(t *testing.T) {
		c := g.connect(l, 1)
		g.send(packet(opReadWrite, c.local.Port, 1), []byte("last"))
		h := packet(opShutdown, c.local.Port, 1)
		h.flags = shutdownBoth
		g.send(h, nil)
		g.receive(opReset)
		if got, err := io.ReadAll(c); string(got) != "last" || err != nil {
			t.Errorf("ReadAll = %q, %v; want last, nil", got, err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write = %v; want EPIPE", err)
		}
	})
	t.Run("host closes", func(t *testing.T) {
		c := g.connect(l, 2)
		g.send(packet(opReadWrite, c.local.Port, 2), make([]byte, 1000))
		g.must(c.Close())
		if h, _ := g.receive(opShutdown); h.flags != shutdownBoth || h.fwdCnt != 1000 {
			t.Errorf("shutdown has flags %d, fwd_cnt %d; want 3, 1000: discarded bytes count", h.flags, h.fwdCnt)
		}
		g.send(packet(opReset, c.local.Port, 2), nil)
		if n := g.dev.Stats().Connections; n != 0 {
			t.Errorf("%d connections; want 0", n)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close = %v; want net.ErrClosed", err)
		}
	})
	t.Run("guest never confirms", func(t *testing.T) {
		c := g.connect(l, 3)
		g.must(c.Close())
		g.receive(opShutdown)
		g.dev.lingering.expire(time.Now().Add(closeTimeout + time.Second))
		g.receive(opReset)
		if n := g.dev.Stats().Connections; n != 0 {
			t.Errorf("%d connections; want 0", n)
		}
	})
	t.Run("CloseWrite", func(t *testing.T) {
		c := g.connect(l, 4)
		g.must(c.CloseWrite())
		if h, _ := g.receive(opShutdown); h.flags != shutdownSend {
			t.Errorf("flags = %d; want %d", h.flags, shutdownSend)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write = %v; want EPIPE", err)
		}
		g.send(packet(opReadWrite, c.local.Port, 4), []byte("x"))
		if n, err := c.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("Read = %d, %v; want 1, nil", n, err)
		}
	})
	t.Run("CloseRead", func(t *testing.T) {
		c := g.connect(l, 5)
		g.send(packet(opReadWrite, c.local.Port, 5), make([]byte, 10))
		g.must(c.CloseRead())
		if h, _ := g.receive(opShutdown); h.flags != shutdownReceive || h.fwdCnt != 10 {
			t.Errorf("flags = %d, fwd_cnt %d; want %d, 10", h.flags, h.fwdCnt, shutdownReceive)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read = %v; want EOF", err)
		}
		if n, err := c.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("Write = %d, %v; want 1, nil", n, err)
		}
		g.receive(opReadWrite)
	})
	t.Run("reset", func(t *testing.T) {
		c := g.connect(l, 6)
		g.send(packet(opReadWrite, c.local.Port, 6), make([]byte, 10))
		g.send(packet(opReset, c.local.Port, 6), nil)
		if got, err := io.ReadAll(c); len(got) != 10 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ReadAll = %d bytes, %v; want 10, ECONNRESET", len(got), err)
		}
	})
}

// TestCreditUpdates: the guest is told at half of the smaller buffer, whichever that is.
func TestCreditUpdates(t *testing.T) {
	tests := []struct{ own, peer, want uint32 }{
		{256 << 10, 256 << 10, 128 << 10},
		{1 << 20, 256 << 10, 128 << 10},
		{64 << 10, 256 << 10, 32 << 10},
		{256 << 10, 1 << 10, 512},
	}
	for _, tt := range tests {
		g := newFakeGuest(t, &Config{ReceiveBuffer: tt.own})
		l := g.listen()
		h := packet(opRequest, l.Addr().(Addr).Port, 1)
		h.bufAlloc = tt.peer
		g.send(h, nil)
		g.receive(opResponse)
		c, err := l.Accept()
		g.must(err)
		h.op = opReadWrite
		buf := make([]byte, 512)
		for n := uint32(512); ; n += 512 {
			h.length = 512
			g.send(h, buf)
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Fatal(err)
			}
			if n < tt.want {
				continue
			}
			if up, _ := g.receive(opCreditUpdate); up.fwdCnt != tt.want || up.bufAlloc != tt.own {
				t.Errorf("buffers %d and %d: told after %d bytes with buf_alloc %d; want %d, %d",
					tt.own, tt.peer, up.fwdCnt, up.bufAlloc, tt.want, tt.own)
			}
			break
		}
		c.Close()
	}
}

// TestWriteWaitsForCredit checks that the host sends no more than the guest has room for.
func TestWriteWaitsForCredit(t *testing.T) {
	g := newFakeGuest(t, nil)
	l := g.listen()
	h := packet(opRequest, l.Addr().(Addr).Port, 1)
	h.bufAlloc = 10
	g.send(h, nil)
	g.receive(opResponse)
	c, err := l.Accept()
	g.must(err)
	defer c.Close()
	done := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("0123456789abcdefghijABCDE"))
		done <- err
	}()
	h.op = opCreditUpdate
	for _, want := range []string{"0123456789", "abcdefghij", "ABCDE"} {
		if _, data := g.receive(opReadWrite); string(data) != want {
			t.Errorf("received %q; want %q", data, want)
		}
		if _, _, ok := g.tryReceive(10 * time.Millisecond); ok {
			t.Error("received a packet without credit")
		}
		h.fwdCnt += 10
		if want != "ABCDE" {
			g.send(h, nil)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("Write = %v; want nil", err)
	}
}

// TestMemoryMoves replaces the memory map under running rings.
func TestMemoryMoves(t *testing.T) {
	g := newFakeGuest(t, nil)
	c := g.connect(g.listen(), 1)
	for range 20 {
		g.ask(msgSetMemTable, flagNeedReply, memTable(), g.memFD)
		g.send(packet(opReadWrite, c.local.Port, 1), []byte("x"))
		if n, err := c.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Fatalf("Read = %d, %v; want 1, nil", n, err)
		}
	}
	g.checkAlive()
}

// TestResources counts what a device has used and must give back.
func TestResources(t *testing.T) {
	count := func() (goroutines, files int) {
		runtime.GC()
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(entries)
	}
	round := func(t *testing.T) {
		g := newFakeGuest(t, nil)
		l := g.listen()
		c := g.connect(l, 1)
		c.SetDeadline(time.Now().Add(time.Hour))
		g.restart()
		g.checkAlive()
		g.must(g.dev.Close())
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close of a listener after the device's = %v; want net.ErrClosed", err)
		}
	}
	t.Run("warm up", round)
	goroutines, files := count()
	for range 10 {
		t.Run("round", round)
	}
	waitUntil(t, "goroutines and files to be given back", func() bool {
		nowGoroutines, nowFiles := count()
		return nowGoroutines <= goroutines && nowFiles <= files
	})
}

// TestIdleConnectionsAreSmall bounds what a connection costs that has moved data and is idle now.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const conns, limit = 1000, 4 << 10
	g := newFakeGuest(t, nil)
	l := g.listen()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // empties the pools
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	buf := make([]byte, 32<<10)
	for i := range uint32(conns) {
		c := g.connect(l, i)
		g.send(packet(opReadWrite, c.local.Port, i), buf)
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	if per := int64(heap()-before) / conns; per > limit {
		t.Errorf("an idle connection holds %d bytes; want at most %d", per, limit)
	}
}
