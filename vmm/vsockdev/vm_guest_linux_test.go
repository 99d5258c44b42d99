package vsockdev_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// TestGuest runs everything that can share one VM, under a real kernel's driver.
func TestGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a VM; run without -short")
	}
	var faults atomic.Pointer[[]vsockdev.Fault]
	g := startGuest(t, &vsockdev.Config{Fault: func(vsockdev.ConnInfo) []vsockdev.Fault {
		if f := faults.Load(); f != nil {
			return *f
		}
		return nil
	}})
	sizes := []int{0, 1, 4095, 4096, 4097, 65536, 262144, 262145, 3 << 20}
	for _, n := range sizes {
		t.Run("HostToGuest/"+strconv.Itoa(n), func(t *testing.T) { testSink(t, g.in(t), n) })
		t.Run("GuestToHost/"+strconv.Itoa(n), func(t *testing.T) { testSource(t, g.in(t), n) })
		t.Run("Both/"+strconv.Itoa(n), func(t *testing.T) { testBoth(t, g.in(t), n) })
		t.Run("Echo/"+strconv.Itoa(n), func(t *testing.T) { testEcho(t, g.in(t), n) })
	}
	t.Run("GuestDials", func(t *testing.T) { testGuestDials(t, g.in(t)) })
	t.Run("GuestIsRefused", func(t *testing.T) { testGuestIsRefused(t, g.in(t)) })
	t.Run("HostIsRefused", func(t *testing.T) { testHostIsRefused(t, g.in(t)) })
	t.Run("HostDials", func(t *testing.T) { testHostDials(t, g.in(t)) })
	t.Run("Stall", func(t *testing.T) { testStall(t, g.in(t)) })
	t.Run("WriterWakes", func(t *testing.T) { testWriterWakes(t, g.in(t)) })
	t.Run("ResetConnections", func(t *testing.T) { testResetConnections(t, g.in(t)) })
	t.Run("Faults", func(t *testing.T) { testFaults(t, g.in(t), &faults) })
	t.Run("Pause", func(t *testing.T) { testPause(t, g.in(t)) })
	t.Run("NothingIsLeft", func(t *testing.T) { testNothingIsLeft(t, g.in(t)) })
}

// in returns the guest for a subtest.
func (g *guest) in(t *testing.T) *guest { return &guest{vm: g.vm, t: t} }

func testSink(t *testing.T, g *guest, n int) {
	c := g.command("sink")
	want := pattern(n)
	if k, err := c.Write(want); k != n || err != nil {
		t.Fatalf("Write = %d, %v; want %d, nil", k, err, n)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatalf("CloseWrite() = %v; want nil", err)
	}
	count, s := g.answer(c)
	if count != int64(n) || uint64(s) != sum(want) {
		t.Errorf("guest got %d bytes with sum %x; want %d with %x", count, uint64(s), n, sum(want))
	}
	if k, err := c.Read(make([]byte, 1)); k != 0 || err != io.EOF {
		t.Errorf("Read after the answer = %d, %v; want 0, EOF", k, err)
	}
}

func testSource(t *testing.T, g *guest, n int) {
	got, err := io.ReadAll(g.command("source %d 65536", n))
	if err != nil || !bytes.Equal(got, pattern(n)) {
		t.Errorf("ReadAll = %d bytes, %v; want the %d bytes that the guest sent", len(got), err, n)
	}
}

// testBoth checks that the guest's half-close leaves the other direction open.
func testBoth(t *testing.T, g *guest, n int) {
	c := g.command("both %d", n)
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, pattern(n)) {
		t.Fatalf("ReadAll = %d bytes, %v; want the %d bytes that the guest sent", len(got), err, n)
	}
	if k, err := c.Write(pattern(n)); k != n || err != nil {
		t.Errorf("Write after the guest's half-close = %d, %v; want %d, nil", k, err, n)
	}
}

func testEcho(t *testing.T, g *guest, n int) {
	c := g.command("echo")
	want := pattern(n)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Write(want); err != nil {
			t.Errorf("Write: %v", err)
		}
		c.CloseWrite()
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("echo of %d bytes gave %d, %v", n, len(got), err)
	}
}

// testGuestDials lets the guest connect and close many times.
func testGuestDials(t *testing.T, g *guest) {
	const port, times = 7001, 500
	l, err := g.vm.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range times {
			c, err := l.Accept()
			if err != nil {
				t.Errorf("Accept: %v", err)
				return
			}
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("Read = %v; want EOF", err)
			}
			c.Close()
		}
	})
	failed, _ := g.answer(g.command("dial %d %d", port, times))
	if failed != 0 {
		t.Errorf("%d of the guest's %d connects failed", failed, times)
		l.Close()
	}
	wg.Wait()
	l.Close()
}

func testGuestIsRefused(t *testing.T, g *guest) {
	if errno, _ := g.answer(g.command("refused 7002")); syscall.Errno(errno) != syscall.ECONNRESET {
		t.Errorf("connect to a closed port of the host: errno %d; want ECONNRESET", errno)
	}
}

func testHostIsRefused(t *testing.T, g *guest) {
	_, err := g.vm.Device().Dial(t.Context(), 7003)
	if opErr := (*net.OpError)(nil); !errors.As(err, &opErr) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial of a closed port = %v; want a *net.OpError around ECONNREFUSED", err)
	}
}

// testHostDials has many connections at a time, each with its own bytes.
func testHostDials(t *testing.T, g *guest) {
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 4 {
				c, err := g.tryCommand("source %d 1000", 10000+i)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, pattern(10000+i)) {
					t.Errorf("connection %d: %d bytes, %v; want %d", i, len(got), err, 10000+i)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
}

// testStall checks that a guest process that never reads holds nobody else up, and that its writer's deadline works.
func testStall(t *testing.T, g *guest) {
	c := g.command("stall")
	c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := c.Write(make([]byte, 8<<20))
	if nerr := net.Error(nil); !errors.As(err, &nerr) || !nerr.Timeout() || n == 0 || n == 8<<20 {
		t.Errorf("Write to a process that does not read = %d, %v; want some bytes and a timeout", n, err)
	}
	testEcho(t, g, 1<<20)
	if err := c.Close(); err != nil {
		t.Errorf("Close() = %v; want nil", err)
	}
}

// testWriterWakes: a guest process that waits in poll for credit must notice that the host has closed.
func testWriterWakes(t *testing.T, g *guest) {
	c := g.command("writer")
	waitFor(t, "the guest to run out of credit", func() bool {
		before := g.vm.Device().Stats().BytesReceived
		time.Sleep(50 * time.Millisecond) // how long "out of credit" must last to be believed
		return before > 100<<10 && g.vm.Device().Stats().BytesReceived == before
	})
	c.Close()
	waitFor(t, "the guest's writer to fail", func() bool {
		errno, _ := g.answer(g.command("lasterr"))
		return syscall.Errno(errno) == syscall.EPIPE || syscall.Errno(errno) == syscall.ECONNRESET
	})
}

func testResetConnections(t *testing.T, g *guest) {
	conns := []*vsockdev.Conn{g.command("stall"), g.command("stall")}
	g.vm.Device().ResetConnections()
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read after ResetConnections = %v; want ECONNRESET", err)
		}
	}
	testEcho(t, g, 100)
}

// testFaults cuts a guest's stream at random bytes. The host must see exactly the bytes before, and the right end.
func testFaults(t *testing.T, g *guest, faults *atomic.Pointer[[]vsockdev.Fault]) {
	defer faults.Store(nil)
	const total = 300000
	want := pattern(total)
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		f := vsockdev.Fault{
			Direction: vsockdev.GuestToHost,
			At:        random.Uint64N(total),
			Action:    vsockdev.FaultAction(random.IntN(3)),
		}
		faults.Store(&[]vsockdev.Fault{f})
		c, err := g.tryCommand("source %d 65536", total)
		if f.At == 0 && err != nil {
			continue // broken before the command
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		reset := errors.Is(err, syscall.ECONNRESET)
		if !bytes.Equal(got, want[:f.At]) || reset != (f.Action == vsockdev.FaultReset) || err != nil && !reset {
			t.Errorf("%+v: %d bytes, %v", f, len(got), err)
		}
		c.Close()
	}
}

// testPause pauses the VM under a connection.
func testPause(t *testing.T, g *guest) {
	c := g.command("echo")
	ask := func(s string) {
		t.Helper()
		buf := make([]byte, len(s))
		if _, err := io.WriteString(c, s); err != nil {
			t.Fatalf("Write: %v", err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != s {
			t.Fatalf("echo = %q, %v; want %q", buf, err, s)
		}
	}
	ask("before")
	g.vm.Device().Hold()
	if err := g.vm.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.vm.Device().Dial(t.Context(), commandPort); !errors.Is(err, vsockdev.ErrNotReady) {
		t.Errorf("Dial in the pause = %v; want ErrNotReady", err)
	}
	if err := g.vm.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.vm.Device().Unhold()
	ask("after")
}

// testNothingIsLeft checks that the connections of the other tests have left the table.
func testNothingIsLeft(t *testing.T, g *guest) {
	waitFor(t, "the connections to be gone", func() bool { return g.vm.Device().Stats().Connections == 0 })
	if s := g.vm.Device().Stats(); s.BadChains+s.BadPackets+s.Violations+s.ResetsDropped != 0 {
		t.Errorf("a real driver was found at fault: %+v", s)
	}
}

// TestReboot restarts the guest: its connections break, and the device works again afterwards.
func TestReboot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a VM; run without -short")
	}
	g := startGuest(t, nil, "-action", "reboot=reset")
	dev := g.vm.Device()
	ready := dev.Ready()
	old := g.command("stall")
	g.command("reboot")
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read while the guest reboots = %v; want ECONNRESET", err)
	}
	if dev.Ready() == ready {
		t.Error("Ready is the same channel after the reboot")
	}
	g.waitServing()
	testEcho(t, g, 1<<20)
}

// TestMonitorDies ends the VM under a connection and a listener.
func TestMonitorDies(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a VM; run without -short")
	}
	g := startGuest(t, nil)
	c := g.command("stall")
	l, err := g.vm.Listen(7004)
	if err != nil {
		t.Fatal(err)
	}
	g.vm.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read = %v; want ECONNRESET", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v; want net.ErrClosed", err)
	}
	if _, err := g.vm.Device().Dial(t.Context(), 1); err == nil {
		t.Error("Dial after the end = nil; want an error")
	}
}

// waitFor polls a condition.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
