package vsockdev

import (
	"encoding/binary"
	"io"
	"testing"
	"time"
)

// FuzzGuest plays any sequence of packets and descriptor chains on a live device with a listener and connections in
// several states, while the host reads and writes. Whatever comes, the host must not crash, the queue must not wedge, and
// no connection may hold more than its buffer.
//
// The input is a list of steps of eight bytes: what to do, operation, ports, and numbers that are put where they hurt.
func FuzzGuest(f *testing.F) {
	step := func(b ...byte) []byte { return append(b, make([]byte, 8-len(b))...) }
	f.Add(step(0, opRequest, 1, 1))
	f.Add(append(step(0, opRequest, 1, 1), step(0, opReadWrite, 1, 1, 100)...))
	f.Add(append(step(0, opRequest, 1, 2), step(0, opShutdown, 1, 2, 0, 3)...))
	f.Add(append(step(0, opRequest, 1, 3), step(2, 0, 1, 3, 200)...))
	f.Add(append(step(0, opRequest, 1, 4), step(3, 1, 1, 4)...))
	f.Add(step(1, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, steps []byte) {
		g := newFakeGuest(t, &Config{ReceiveBuffer: minReceiveBuffer, MaxConnections: 6})
		l, err := g.dev.Listen(1)
		g.must(err)
		host := newFuzzHost(l.(*listener))
		defer host.join()
		for len(steps) >= 8 && !t.Failed() {
			g.fuzzStep(steps[:8], host)
			steps = steps[8:]
			for {
				if _, _, ok := g.tryReceive(0); !ok {
					break
				}
			}
		}
		checkBounds(t, g.dev)
		g.reached()
		g.dev.Close()
	})
}

// fuzzStep carries out one step.
func (g *fakeGuest) fuzzStep(b []byte, host *fuzzHost) {
	le := binary.LittleEndian
	switch b[0] % 4 {
	case 0: // a packet
		h := packet(uint16(b[1]), uint32(b[2]%4), uint32(b[3]%8))
		h.flags = uint32(b[5])
		if b[6] != 0 {
			h.length, h.fwdCnt, h.bufAlloc = uint32(b[6])<<(b[7]%32), uint32(b[7])<<(b[6]%32), uint32(b[4])<<8
		}
		if b[7] == 0xff {
			h.kind = uint16(b[6])
		}
		g.send(h, make([]byte, int(b[4])*16))
	case 1: // a chain of two descriptors of any kind
		at := uint64(fakeGuestAt+fakeTXBufAt) + uint64(int16(le.Uint16(b[2:])))<<(b[1]>>3)
		g.sendChain(fakeDesc{at, uint32(b[4]) << (b[5] % 32), uint16(b[1] % 8), uint16(b[6])}, fakeDesc{at, uint32(b[7]), 0, 0})
	case 2: // the host reads
		host.step <- fuzzOp{guest: uint32(b[3] % 8), read: int(b[4]) * 64}
	case 3: // the host writes, closes or half-closes
		host.step <- fuzzOp{guest: uint32(b[3] % 8), write: int(b[4]) * 64, close: b[1] % 5}
	}
}

// fuzzOp is something that the host's side does with the connection of a guest's port.
type fuzzOp struct {
	guest       uint32
	read, write int
	close       byte
}

// fuzzHost is an application that accepts connections and does what the steps say.
type fuzzHost struct {
	l     *listener
	step  chan fuzzOp
	done  chan struct{}
	conns map[uint32]*Conn
}

func newFuzzHost(l *listener) *fuzzHost {
	h := &fuzzHost{l: l, step: make(chan fuzzOp), done: make(chan struct{}), conns: make(map[uint32]*Conn)}
	go h.run()
	return h
}

func (h *fuzzHost) run() {
	defer close(h.done)
	for op := range h.step {
		for len(h.l.backlog) > 0 {
			c, err := h.l.Accept()
			if err != nil {
				break
			}
			h.conns[c.(*Conn).key.guest] = c.(*Conn)
		}
		if c := h.conns[op.guest]; c != nil {
			h.do(c, op)
		}
	}
	for _, c := range h.conns {
		c.Close()
	}
}

func (h *fuzzHost) do(c *Conn, op fuzzOp) {
	c.SetDeadline(time.Now().Add(time.Millisecond))
	if op.read > 0 {
		io.ReadFull(c, make([]byte, op.read))
	}
	if op.write > 0 {
		c.Write(make([]byte, op.write))
	}
	switch op.close {
	case 1:
		c.CloseWrite()
	case 2:
		c.CloseRead()
	case 3:
		c.Close()
	case 4:
		c.dev.ResetConnections()
	}
}

func (h *fuzzHost) join() {
	close(h.step)
	<-h.done
}

// checkBounds checks what the device holds.
func checkBounds(t *testing.T, d *Device) {
	t.Helper()
	conns := d.takeConns()
	if len(conns) > d.cfg.MaxConnections {
		t.Errorf("%d connections; want at most %d", len(conns), d.cfg.MaxConnections)
	}
	for _, c := range conns {
		c.mu.Lock()
		if c.recv.size > int(d.cfg.ReceiveBuffer) || c.rxCnt-c.fwdCnt != uint32(c.recv.size) {
			t.Errorf("connection holds %d bytes and counts %d; want them equal and at most %d", c.recv.size, c.rxCnt-c.fwdCnt, d.cfg.ReceiveBuffer)
		}
		c.mu.Unlock()
	}
}

// reached proves that every chain has met the live device: it was taken for a packet, or refused.
func (g *fakeGuest) reached() {
	g.t.Helper()
	if s := g.dev.Stats(); s.PacketsReceived+s.BadChains != g.sent {
		g.t.Errorf("%d packets and %d bad chains; want %d together", s.PacketsReceived, s.BadChains, g.sent)
	}
}

// FuzzConnectLine checks the parser of the hybrid form: what it accepts is exactly what printing gives.
func FuzzConnectLine(f *testing.F) {
	for _, s := range []string{"CONNECT 1024\n", "CONNECT 4294967295\n", "CONNECT 4294967296\n", "CONNECT -1\n", "CONNECT \n", "connect 1\n", "CONNECT 1 \n", "CONNECT +1\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		port, err := parseConnect(line)
		if err != nil {
			return
		}
		if again, err := parseConnect(connectLine(port)); err != nil || again != port {
			t.Errorf("parseConnect(%q) = %d, but of its own line %d, %v", line, port, again, err)
		}
	})
}
