package vsockdev

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"
)

const (
	maxRingSize = 32768 // VIRTIO 1.2, section 2.7

	descSize     = 16
	usedElemSize = 8

	descNext     = 1 << 0
	descWrite    = 1 << 1
	descIndirect = 1 << 2
)

var (
	// errBadChain: the driver offered a descriptor chain that cannot be used. The chain is given back unused.
	errBadChain = errors.New("invalid descriptor chain")
	// errBadHead: an available entry names no descriptor, so there is nothing to give back. The entry is skipped.
	errBadHead = errors.New("available entry out of range")
	// errRingBroken: the available index cannot be true. Nothing in the ring can be relied on any more.
	errRingBroken = errors.New("available index out of range")
)

// ring is a split virtqueue (VIRTIO 1.2, section 2.7) as the device sees it. Its memory belongs to the guest, which may
// change it at any time: everything is read once, into this process's own memory, and then checked.
//
// The index words are accessed as one aligned 32-bit atomic together with the flags beside them: Go's atomics are
// sequentially consistent, which gives the acquire and release order that the ring needs on every architecture.
// The used ring's flags stay 0 and the driver is always signalled: both sides would otherwise depend on a full
// barrier in the guest, which QEMU's TCG leaves out when it has a single CPU.
type ring struct {
	num       uint16
	desc      []byte
	avail     []byte
	used      []byte
	availSeen uint16 // available index when it was last loaded
	lastAvail uint16 // next available entry to take
	usedIdx   uint16 // next used entry to fill; the driver sees it after publish
	published uint16
}

// ringSetup is where the driver has put a ring: its size, and addresses in the front end's address space.
type ringSetup struct {
	num               uint32
	desc, avail, used uint64
	base              uint16
}

// newRing resolves s in m. It returns nil when the ring is not wholly in memory or not aligned.
func newRing(m *memory, s ringSetup) *ring {
	if m == nil || s.num == 0 || s.num > maxRingSize || s.num&(s.num-1) != 0 {
		return nil
	}
	num := uint64(s.num)
	r := &ring{
		num:       uint16(s.num),
		desc:      m.userSlice(s.desc, descSize*num),
		avail:     m.userSlice(s.avail, 4+2*num),
		used:      m.userSlice(s.used, 4+usedElemSize*num),
		lastAvail: s.base,
		availSeen: s.base,
	}
	if !aligned(r.desc, 8) || !aligned(r.avail, 4) || !aligned(r.used, 4) {
		return nil
	}
	r.usedIdx = loadIndex(r.used)
	r.published = r.usedIdx
	return r
}

// aligned reports whether b exists and starts at a multiple of n in this process's memory.
func aligned(b []byte, n uintptr) bool {
	return b != nil && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%n == 0
}

// loadIndex reads the index of an available or used ring: the upper half of its first, little-endian word.
func loadIndex(b []byte) uint16 {
	return uint16(atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(b)))) >> 16)
}

// storeIndex publishes the index of a ring, with flags 0.
func storeIndex(b []byte, idx uint16) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), uint32(idx)<<16)
}

// pending reports whether the driver has offered chains that were not taken. It loads the index only when it must.
func (r *ring) pending() (bool, error) {
	if r.availSeen == r.lastAvail {
		r.availSeen = loadIndex(r.avail)
		if r.availSeen-r.lastAvail > r.num {
			r.availSeen = r.lastAvail
			return false, errRingBroken
		}
	}
	return r.availSeen != r.lastAvail, nil
}

// chain is a descriptor chain. Its segments are guest memory.
type chain struct {
	head uint16
	size int
	segs [][]byte
}

// take reads the next chain into ch; pending must have returned true. The chain's buffers must all be writable, or all
// readable, as write says. With errBadChain the caller gives ch.head back with put; with errBadHead it does not.
func (r *ring) take(m *memory, write bool, ch *chain) error {
	entry := 4 + 2*int(r.lastAvail&(r.num-1))
	ch.head = binary.LittleEndian.Uint16(r.avail[entry:])
	ch.size = 0
	ch.segs = ch.segs[:0]
	r.lastAvail++
	if ch.head >= r.num {
		return errBadHead
	}
	idx := ch.head
	for range r.num { // a chain longer than the ring is a loop
		d := r.desc[descSize*int(idx):][:descSize]
		addr := binary.LittleEndian.Uint64(d[0:])
		meta := binary.LittleEndian.Uint64(d[8:])
		n, flags, next := uint32(meta), uint16(meta>>32), uint16(meta>>48)
		if flags&descIndirect != 0 || (flags&descWrite != 0) != write || !ch.add(m, addr, uint64(n)) {
			return errBadChain
		}
		if flags&descNext == 0 {
			return nil
		}
		if next >= r.num {
			return errBadChain
		}
		idx = next
	}
	return errBadChain
}

// maxChain bounds the bytes of a chain, so that they can be counted in an int and a chain costs little to walk.
const maxChain = 1 << 26

// add appends n bytes at a guest address to the chain, or reports false when they are not all guest memory.
func (ch *chain) add(m *memory, addr, n uint64) bool {
	if n > maxChain || uint64(ch.size)+n > maxChain {
		return false
	}
	for n > 0 {
		b := m.guestSlice(addr, n)
		if b == nil {
			return false
		}
		ch.segs = append(ch.segs, b)
		ch.size += len(b)
		addr += uint64(len(b))
		n -= uint64(len(b))
	}
	return true
}

// untake gives the chain that take returned last back to the available ring, unused.
func (r *ring) untake() { r.lastAvail-- }

// put gives a chain back, of which the device has written n bytes. The driver sees it after publish.
func (r *ring) put(head uint16, n int) {
	e := r.used[4+usedElemSize*int(r.usedIdx&(r.num-1)):][:usedElemSize]
	binary.LittleEndian.PutUint64(e, uint64(head)|uint64(n)<<32)
	r.usedIdx++
}

// publish shows the driver what put has given back since, and reports whether there was anything.
func (r *ring) publish() bool {
	if r.usedIdx == r.published {
		return false
	}
	r.published = r.usedIdx
	storeIndex(r.used, r.usedIdx)
	return true
}

// readAt copies from the chain's bytes, starting off bytes into it, and returns how many it copied.
func (ch *chain) readAt(p []byte, off int) int {
	n := 0
	for _, seg := range ch.segs {
		if off >= len(seg) {
			off -= len(seg)
			continue
		}
		n += copy(p[n:], seg[off:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}

// writeAt copies p into the chain's bytes, starting off bytes into it, and returns how many fitted.
func (ch *chain) writeAt(p []byte, off int) int {
	n := 0
	for _, seg := range ch.segs {
		if off >= len(seg) {
			off -= len(seg)
			continue
		}
		n += copy(seg[off:], p[n:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}
