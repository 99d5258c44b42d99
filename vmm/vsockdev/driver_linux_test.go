package vsockdev

import (
	"encoding/binary"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the fake driver keeps things in its memory, and where it says that its memory is.
const (
	fakeMemory  = 8 << 20
	fakeGuestAt = 0x10_0000
	fakeUserAt  = 0x7f00_0000_0000

	fakeRing     = 64 // descriptors in a ring
	fakeRXRingAt = 0
	fakeTXRingAt = 0x4000
	fakeTXBufAt  = 0x1_0000 // one packet at a time is sent from here, or a few hostile descriptors
	fakeRXBufAt  = 0x40_0000
	fakeRXBuf    = 4096

	fakeTimeout = 10 * time.Second
)

// fakeGuest is a vhost-user front end and a vsock driver in one, on the other end of a device's socket. It does what
// QEMU and Linux do, or the contrary.
type fakeGuest struct {
	t      testing.TB
	dev    *Device
	conn   *net.UnixConn
	memFD  int
	mem    []byte
	sent   uint64 // chains sent
	rx, tx *fakeQueue
}

// fakeQueue is the driver's side of a ring.
type fakeQueue struct {
	g          *fakeGuest
	index      uint32
	at         uint64
	kick, call *os.File
	availIdx   uint16
	usedSeen   uint16
}

// newFakeGuest makes a device and a guest whose driver is up and has offered its receive buffers.
func newFakeGuest(t testing.TB, cfg *Config) *fakeGuest {
	t.Helper()
	g := newFakeFrontend(t, cfg)
	g.start()
	for i := range fakeRing / 2 {
		g.offerRX(uint16(2 * i))
	}
	g.rx.notify()
	return g
}

// newFakeFrontend makes a device and a front end that has said nothing yet.
func newFakeFrontend(t testing.TB, cfg *Config) *fakeGuest {
	t.Helper()
	dev, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	f, err := dev.TakeSocket()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	g := &fakeGuest{t: t, dev: dev, conn: conn.(*net.UnixConn)}
	t.Cleanup(func() { conn.Close() })
	g.makeMemory()
	g.rx, g.tx = g.newQueue(0, fakeRXRingAt), g.newQueue(1, fakeTXRingAt)
	return g
}

func (g *fakeGuest) makeMemory() {
	fd, err := unix.MemfdCreate("fake-guest", unix.MFD_CLOEXEC)
	g.must(err)
	g.t.Cleanup(func() { unix.Close(fd) })
	g.must(unix.Ftruncate(fd, fakeMemory))
	g.mem, err = unix.Mmap(fd, 0, fakeMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	g.must(err)
	mem := g.mem
	g.t.Cleanup(func() { unix.Munmap(mem) })
	g.memFD = fd
}

func (g *fakeGuest) must(err error) {
	if err != nil {
		g.t.Helper()
		g.t.Fatal(err)
	}
}

func (g *fakeGuest) newQueue(index uint32, at uint64) *fakeQueue {
	q := &fakeQueue{g: g, index: index, at: at}
	for _, f := range []**os.File{&q.kick, &q.call} {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		g.must(err)
		file := os.NewFile(uintptr(fd), "eventfd")
		g.t.Cleanup(func() { file.Close() })
		*f = file
	}
	return q
}

// tell sends a message with files.
func (g *fakeGuest) tell(request, flags uint32, payload []byte, files ...int) error {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, request)
	b = le.AppendUint32(b, messageVersion|flags)
	b = le.AppendUint32(b, uint32(len(payload)))
	_, _, err := g.conn.WriteMsgUnix(append(b, payload...), unix.UnixRights(files...), nil)
	return err
}

// ask sends a message and returns the payload of its answer.
func (g *fakeGuest) ask(request, flags uint32, payload []byte, files ...int) []byte {
	g.t.Helper()
	g.must(g.tell(request, flags, payload, files...))
	g.conn.SetReadDeadline(time.Now().Add(fakeTimeout))
	var head [messageHeaderSize]byte
	g.readFull(head[:])
	body := make([]byte, binary.LittleEndian.Uint32(head[8:]))
	g.readFull(body)
	if got := binary.LittleEndian.Uint32(head[:]); got != request {
		g.t.Fatalf("answer to request %d is for %d", request, got)
	}
	return body
}

func (g *fakeGuest) readFull(b []byte) {
	g.t.Helper()
	for len(b) > 0 {
		n, err := g.conn.Read(b)
		g.must(err)
		b = b[n:]
	}
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func u32s(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

// memTable is a SET_MEM_TABLE payload with the fake memory as its only region.
func memTable() []byte {
	b := u32s(1, 0)
	for _, v := range []uint64{fakeGuestAt, fakeMemory, fakeUserAt, 0} {
		b = append(b, u64(v)...)
	}
	return b
}

// start brings the driver up with the messages that QEMU 7.2 sends, in their order.
func (g *fakeGuest) start() {
	g.t.Helper()
	g.ask(msgGetFeatures, 0, nil)
	g.ask(msgGetProtocolFeatures, 0, nil)
	g.must(g.tell(msgSetProtocolFeatures, 0, u64(offeredProtocol)))
	g.ask(msgGetQueueNum, 0, nil)
	g.must(g.tell(msgSetOwner, 0, nil))
	g.ask(msgGetConfig, 0, append(u32s(0, 8, 0), make([]byte, 8)...))
	g.must(g.tell(msgSetFeatures, 0, u64(offeredFeatures)))
	g.ask(msgSetMemTable, flagNeedReply, memTable(), g.memFD)
	g.rx.setUp()
	g.tx.setUp()
	for _, q := range []*fakeQueue{g.rx, g.tx} {
		g.ask(msgSetVringEnable, flagNeedReply, u32s(q.index, 1))
	}
	<-g.dev.Ready()
}

// addrs returns where the ring's parts are, from the start of the memory.
func (q *fakeQueue) addrs() (desc, avail, used uint64) {
	return q.at, q.at + descSize*fakeRing, q.at + 0x1000
}

func (q *fakeQueue) setUp() {
	desc, avail, used := q.addrs()
	g := q.g
	g.must(g.tell(msgSetVringNum, 0, u32s(q.index, fakeRing)))
	g.must(g.tell(msgSetVringBase, 0, u32s(q.index, uint32(q.availIdx))))
	addr := u32s(q.index, 0)
	for _, v := range []uint64{fakeUserAt + desc, fakeUserAt + used, fakeUserAt + avail, 0} {
		addr = append(addr, u64(v)...)
	}
	g.must(g.tell(msgSetVringAddr, 0, addr))
	g.must(g.tell(msgSetVringKick, 0, u64(uint64(q.index)), fdOf(q.kick)))
	g.must(g.tell(msgSetVringCall, 0, u64(uint64(q.index)), fdOf(q.call)))
}

// fdOf returns a file's descriptor and leaves it non-blocking, which File.Fd does not.
func fdOf(f *os.File) (fd int) {
	rc, err := f.SyscallConn()
	if err != nil {
		panic(err)
	}
	rc.Control(func(v uintptr) { fd = int(v) })
	return fd
}

// fakeDesc is a descriptor as the driver writes it.
type fakeDesc struct {
	addr        uint64
	n           uint32
	flags, next uint16
}

func (q *fakeQueue) setDesc(i int, d fakeDesc) {
	b := q.g.mem[q.at+uint64(descSize*i):]
	binary.LittleEndian.PutUint64(b, d.addr)
	binary.LittleEndian.PutUint64(b[8:], uint64(d.n)|uint64(d.flags)<<32|uint64(d.next)<<48)
}

// offer makes a chain available, without a notification.
func (q *fakeQueue) offer(head uint16) {
	_, avail, _ := q.addrs()
	binary.LittleEndian.PutUint16(q.g.mem[avail+4+2*uint64(q.availIdx%fakeRing):], head)
	q.availIdx++
	q.setAvailIdx(q.availIdx)
}

func (q *fakeQueue) setAvailIdx(idx uint16) {
	_, avail, _ := q.addrs()
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&q.g.mem[avail])), uint32(idx)<<16)
}

func (q *fakeQueue) notify() { q.kick.Write(eventfdOne[:]) }

// takeUsed waits for the device to give a chain back, and returns its head and the bytes written; ok is false when that
// does not happen in time.
func (q *fakeQueue) takeUsed(timeout time.Duration) (head, n uint32, ok bool) {
	_, _, used := q.addrs()
	q.call.SetReadDeadline(time.Now().Add(timeout))
	for loadIndex(q.g.mem[used:]) == q.usedSeen {
		var event [8]byte
		if _, err := q.call.Read(event[:]); err != nil {
			return 0, 0, false
		}
	}
	e := q.g.mem[used+4+usedElemSize*uint64(q.usedSeen%fakeRing):]
	q.usedSeen++
	return binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), true
}

// offerRX offers a receive buffer in the form of Linux 6.1: a header and a page.
func (g *fakeGuest) offerRX(head uint16) {
	at := fakeGuestAt + fakeRXBufAt + uint64(head)*2*fakeRXBuf
	g.rx.setDesc(int(head), fakeDesc{at, headerSize, descWrite | descNext, head + 1})
	g.rx.setDesc(int(head)+1, fakeDesc{at + fakeRXBuf, fakeRXBuf, descWrite, 0})
	g.rx.offer(head)
}

// tryReceive returns the next packet from the host and offers its buffer again.
func (g *fakeGuest) tryReceive(timeout time.Duration) (h header, data []byte, ok bool) {
	head, n, ok := g.rx.takeUsed(timeout)
	if !ok {
		return h, nil, false
	}
	at := fakeRXBufAt + uint64(head)*2*fakeRXBuf
	h.decode(g.mem[at:])
	if int(n) != headerSize+int(h.length) {
		g.t.Errorf("packet of %d bytes says that it has %d of data", n, h.length)
	}
	data = append(data, g.mem[at+fakeRXBuf:][:h.length]...)
	g.offerRX(uint16(head))
	g.rx.notify()
	return h, data, true
}

// receive is tryReceive for a packet that must come, of an operation that must be right.
func (g *fakeGuest) receive(op uint16) (header, []byte) {
	g.t.Helper()
	h, data, ok := g.tryReceive(fakeTimeout)
	if !ok || h.op != op {
		g.t.Fatalf("received %+v, %t; want operation %d", h, ok, op)
	}
	return h, data
}

// packet returns a packet from the guest.
func packet(op uint16, hostPort, guestPort uint32) header {
	return header{
		srcCID: DefaultGuestCID, dstCID: HostCID, srcPort: guestPort, dstPort: hostPort,
		kind: typeStream, op: op, bufAlloc: 256 << 10,
	}
}

// send sends a packet and waits until the device has taken it.
func (g *fakeGuest) send(h header, data []byte) {
	g.t.Helper()
	if h.length == 0 {
		h.length = uint32(len(data))
	}
	h.encode(g.mem[fakeTXBufAt:])
	copy(g.mem[fakeTXBufAt+headerSize:], data)
	at := uint64(fakeGuestAt + fakeTXBufAt)
	if len(data) == 0 {
		g.sendChain(fakeDesc{at, headerSize, 0, 0})
		return
	}
	g.sendChain(fakeDesc{at, headerSize, descNext, 1}, fakeDesc{at + headerSize, uint32(len(data)), 0, 0})
}

// sendChain offers descriptors, which start at number 0, and waits until the device has given them back.
func (g *fakeGuest) sendChain(descs ...fakeDesc) {
	g.t.Helper()
	for i, d := range descs {
		g.tx.setDesc(i, d)
	}
	g.sent++
	g.tx.offer(0)
	g.tx.notify()
	if head, n, ok := g.tx.takeUsed(fakeTimeout); !ok || head != 0 || n != 0 {
		g.t.Fatalf("sent chain came back as %d, %d, %t; want 0, 0, true", head, n, ok)
	}
}

// connect lets the guest dial a listener and returns both ends.
func (g *fakeGuest) connect(l net.Listener, guestPort uint32) *Conn {
	g.t.Helper()
	port := l.Addr().(Addr).Port
	g.send(packet(opRequest, port, guestPort), nil)
	g.receive(opResponse)
	c, err := l.Accept()
	g.must(err)
	g.t.Cleanup(func() { c.Close() })
	return c.(*Conn)
}

func (g *fakeGuest) listen() net.Listener {
	g.t.Helper()
	l, err := g.dev.Listen(0)
	g.must(err)
	return l
}
