package vsockdev

import (
	"io"
	"testing"
	"time"
)

// The device alone, with a driver that costs nothing in its place. Bytes are copied, rings turn, eventfds are written.

// benchConn returns a guest and a connection whose ends have room for plenty.
func benchConn(tb testing.TB) (*fakeGuest, *Conn) {
	g := newFakeGuest(tb, &Config{ReceiveBuffer: 8 << 20})
	l := g.listen()
	h := packet(opRequest, l.Addr().(Addr).Port, 1)
	h.bufAlloc = 1 << 30
	g.send(h, nil)
	g.receive(opResponse)
	c, err := l.Accept()
	g.must(err)
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return g, c.(*Conn)
}

// sendBatch offers as many packets of n bytes as the ring holds, and waits until they are taken. They share their memory.
func (g *fakeGuest) sendBatch(h header, n int) {
	h.op, h.length = opReadWrite, uint32(n)
	h.encode(g.mem[fakeTXBufAt:])
	const at = fakeGuestAt + fakeTXBufAt
	for i := 0; i < fakeRing; i += 2 {
		g.tx.setDesc(i, fakeDesc{at, headerSize, descNext, uint16(i + 1)})
		g.tx.setDesc(i+1, fakeDesc{at + headerSize, uint32(n), 0, 0})
		g.tx.offer(uint16(i))
	}
	g.tx.notify()
	for range fakeRing / 2 {
		if _, _, ok := g.tx.takeUsed(fakeTimeout); !ok {
			g.t.Fatal("packet not taken")
		}
	}
}

// recycle takes what the host has sent without looking at it, and returns how many packets there were.
func (g *fakeGuest) recycle() (packets int) {
	_, _, used := g.rx.addrs()
	for loadIndex(g.mem[used:]) != g.rx.usedSeen {
		head, _, _ := g.rx.takeUsed(fakeTimeout)
		g.offerRX(uint16(head))
		packets++
	}
	return packets
}

func benchmarkReceive(b *testing.B, size int) {
	g, c := benchConn(b)
	h := packet(opReadWrite, c.local.Port, 1)
	h.bufAlloc = 1 << 30
	const batch = fakeRing / 2
	buf := make([]byte, batch*size)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		g.sendBatch(h, size)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		g.recycle()
	}
}

func BenchmarkReceive64K(b *testing.B) { benchmarkReceive(b, 64<<10) }
func BenchmarkReceive4K(b *testing.B)  { benchmarkReceive(b, 4<<10) }

func benchmarkSend(b *testing.B, size int) {
	g, c := benchConn(b)
	h := packet(opCreditUpdate, c.local.Port, 1)
	h.bufAlloc = 1 << 30
	buf := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		h.fwdCnt += uint32(size)
		if h.fwdCnt%(256<<20) < uint32(size) {
			g.send(h, nil)
		}
		g.recycle()
	}
}

func BenchmarkSend64K(b *testing.B) { benchmarkSend(b, 64<<10) }
func BenchmarkSend4K(b *testing.B)  { benchmarkSend(b, 4<<10) }

// TestNoAllocations holds that data costs no garbage.
func TestNoAllocations(t *testing.T) {
	g, c := benchConn(t)
	h := packet(opReadWrite, c.local.Port, 1)
	h.bufAlloc = 1 << 30
	buf := make([]byte, fakeRing/2*4096)
	per := testing.AllocsPerRun(100, func() {
		g.sendBatch(h, 4096)
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(buf[:4096]); err != nil {
			t.Fatal(err)
		}
		g.recycle()
	})
	// The fake driver's waiting costs a few; 33 packets must not cost one each.
	if per > 8 {
		t.Errorf("%v allocations for 32 packets in and one out; want at most 8", per)
	}
}
