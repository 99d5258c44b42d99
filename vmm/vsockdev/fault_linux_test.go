package vsockdev

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"
)

// faulty returns a guest and a connection with one fault.
func faulty(t *testing.T, f Fault) (*fakeGuest, *Conn) {
	g := newFakeGuest(t, &Config{Fault: func(ConnInfo) []Fault { return []Fault{f} }})
	return g, g.connect(g.listen(), 1)
}

func TestFaultsTowardsGuest(t *testing.T) {
	tests := []struct {
		action FaultAction
		op     uint16
		flags  uint32
		err    error
	}{
		{FaultReset, opReset, 0, syscall.ECONNRESET},
		{FaultClose, opShutdown, shutdownBoth, syscall.EPIPE},
		{FaultHalfClose, opShutdown, shutdownSend, syscall.EPIPE},
	}
	for _, tt := range tests {
		for _, at := range []int{0, 1, 4095, 4096, 4097, 10000} {
			g, c := faulty(t, Fault{Direction: HostToGuest, At: uint64(at), Action: tt.action})
			n, err := c.Write(make([]byte, 20000))
			if n != at || !errors.Is(err, tt.err) {
				t.Errorf("%d at %d: Write = %d, %v; want %d, %v", tt.action, at, n, err, at, tt.err)
			}
			got := 0
			for {
				h, data, ok := g.tryReceive(fakeTimeout)
				if !ok {
					t.Fatalf("%d at %d: the guest was not told", tt.action, at)
				}
				if h.op == opReadWrite {
					got += len(data)
					continue
				}
				if h.op != tt.op || h.flags != tt.flags {
					t.Errorf("%d at %d: guest received %+v; want operation %d, flags %d", tt.action, at, h, tt.op, tt.flags)
				}
				break
			}
			if got != at {
				t.Errorf("%d at %d: guest received %d bytes; want %d", tt.action, at, got, at)
			}
		}
	}
}

func TestFaultsTowardsHost(t *testing.T) {
	tests := []struct {
		action FaultAction
		op     uint16
		flags  uint32
		err    error
	}{
		{FaultReset, opReset, 0, syscall.ECONNRESET},
		{FaultClose, opShutdown, shutdownBoth, nil},
		{FaultHalfClose, opShutdown, shutdownReceive, nil},
	}
	for _, tt := range tests {
		for _, at := range []int{0, 1, 999, 1000, 1001, 2500} {
			g, c := faulty(t, Fault{Direction: GuestToHost, At: uint64(at), Action: tt.action})
			for range 3 {
				g.send(packet(opReadWrite, c.local.Port, 1), make([]byte, 1000))
			}
			got, err := io.ReadAll(c)
			if len(got) != at || !errors.Is(err, tt.err) {
				t.Errorf("%d at %d: ReadAll = %d bytes, %v; want %d, %v", tt.action, at, len(got), err, at, tt.err)
			}
			if h, _ := g.receive(tt.op); h.flags != tt.flags {
				t.Errorf("%d at %d: guest received flags %d; want %d", tt.action, at, h.flags, tt.flags)
			}
			_, err = c.Write([]byte("x"))
			if open := tt.action == FaultHalfClose; (err == nil) != open {
				t.Errorf("%d at %d: Write = %v; want success: %t", tt.action, at, err, open)
			}
		}
	}
}

func TestStallTowardsGuest(t *testing.T) {
	gate := new(Gate)
	g, c := faulty(t, Fault{Direction: HostToGuest, At: 3, Action: FaultStall, Gate: gate})
	done := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("abcdef"))
		done <- err
	}()
	if _, data := g.receive(opReadWrite); string(data) != "abc" {
		t.Errorf("received %q; want abc", data)
	}
	g.checkAliveBeside(c)
	gate.Open()
	if _, data := g.receive(opReadWrite); string(data) != "def" {
		t.Errorf("received %q; want def", data)
	}
	if err := <-done; err != nil {
		t.Errorf("Write = %v; want nil", err)
	}
}

func TestStallTowardsHost(t *testing.T) {
	gate := new(Gate)
	g, c := faulty(t, Fault{Direction: GuestToHost, At: 3, Action: FaultStall, Gate: gate})
	g.send(packet(opReadWrite, c.local.Port, 1), []byte("abcdef"))
	buf := make([]byte, 10)
	if n, err := c.Read(buf); string(buf[:n]) != "abc" || err != nil {
		t.Errorf("Read = %q, %v; want abc, nil", buf[:n], err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := c.Read(buf); n != 0 || err == nil {
		t.Errorf("Read at the stall = %d, %v; want a timeout", n, err)
	}
	c.SetReadDeadline(time.Time{})
	gate.Open()
	if n, err := c.Read(buf); string(buf[:n]) != "def" || err != nil {
		t.Errorf("Read = %q, %v; want def, nil", buf[:n], err)
	}
}

// checkAliveBeside checks that another connection, whose own stall lies behind what it sends, is not held up.
func (g *fakeGuest) checkAliveBeside(*Conn) {
	g.t.Helper()
	l := g.listen()
	defer l.Close()
	other := g.connect(l, 2)
	if n, err := other.Write([]byte("ok")); n != 2 || err != nil {
		g.t.Errorf("Write beside a stalled connection = %d, %v; want 2, nil", n, err)
	}
	g.receive(opReadWrite)
}

// TestFaultsInOrder has several faults on one connection.
func TestFaultsInOrder(t *testing.T) {
	gate := new(Gate)
	gate.Open()
	g := newFakeGuest(t, &Config{Fault: func(info ConnInfo) []Fault {
		if info.Dialed || info.Local.CID != HostCID {
			t.Errorf("Fault was asked about %+v; want a connection of the guest", info)
		}
		return []Fault{
			{Direction: GuestToHost, At: 20, Action: FaultReset},
			{Direction: GuestToHost, At: 10, Action: FaultStall, Gate: gate},
			{Direction: HostToGuest, At: 5, Action: FaultHalfClose},
		}
	}})
	c := g.connect(g.listen(), 1)
	if n, err := c.Write(make([]byte, 9)); n != 5 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write = %d, %v; want 5, EPIPE", n, err)
	}
	g.send(packet(opReadWrite, c.local.Port, 1), make([]byte, 30))
	if got, err := io.ReadAll(c); len(got) != 20 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ReadAll = %d bytes, %v; want 20, ECONNRESET", len(got), err)
	}
	if n := g.dev.Stats().Faults; n != 2 {
		t.Errorf("Faults = %d; want 2", n)
	}
}
