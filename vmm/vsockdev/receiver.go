package vsockdev

import "runtime/debug"

// receiver empties the ring from the guest to the host. It never waits for a connection: data that nobody reads
// is bounded by credit, and what has to be answered is noted in the connection.
type receiver struct {
	queue
	wake   []*Conn       // connections that have something to send after this batch
	resets []resetPacket // resets to send after this batch
}

// process is the worker's part: it handles what the guest has offered, at most a ring full at a time so that a guest
// that never stops can be stopped.
func (r *receiver) process() {
	defer r.dev.recoverFault(debug.SetPanicOnFault(true))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		return
	}
	n := 0
	for ; n < int(r.ring.num) && r.nextChain(false, headerSize); n++ {
		r.packet()
		r.ring.put(r.chain.head, 0)
	}
	if r.ring != nil {
		r.flush()
		if n == int(r.ring.num) {
			r.goOn()
		}
	}
	r.answer()
}

// answer sends what the batch has given reason for.
func (r *receiver) answer() {
	if len(r.wake) == 0 && len(r.resets) == 0 {
		return
	}
	r.dev.sender.wakeAll(r.wake, r.resets)
	clear(r.wake)
	r.wake, r.resets = r.wake[:0], r.resets[:0]
}

// packet handles the packet in r.chain.
func (r *receiver) packet() {
	r.dev.stats.packetsReceived.Add(1)
	var hdr [headerSize]byte
	r.chain.readAt(hdr[:], 0)
	var h header
	h.decode(hdr[:])
	// A device drops what is not addressed from its guest to its host (VIRTIO 1.2, section 5.10.6.4.1).
	if h.srcCID != r.dev.cfg.GuestCID || h.dstCID != HostCID {
		r.dev.stats.badPackets.Add(1)
		return
	}
	key := connKey{host: h.dstPort, guest: h.srcPort}
	c := r.dev.lookup(key)
	if h.kind != typeStream || !r.lengthIsTrue(&h) {
		r.dev.stats.badPackets.Add(1)
		r.refuse(c, key, &h)
		return
	}
	switch {
	case h.op == opRequest && c == nil:
		r.request(key, &h)
	case c == nil:
		r.dev.stats.unknown.Add(1)
		r.refuse(nil, key, &h)
	default:
		r.conclude(c, c.receive(&h, &r.chain))
	}
}

// lengthIsTrue reports whether the header's length agrees with the chain, and only data has one.
func (r *receiver) lengthIsTrue(h *header) bool {
	if h.op != opReadWrite {
		return h.length == 0
	}
	return uint64(h.length) <= uint64(r.chain.size-headerSize)
}

// conclude does what the packet means for the connection.
func (r *receiver) conclude(c *Conn, v verdict) {
	switch v {
	case verdictSend:
		r.wake = append(r.wake, c)
	case verdictGone:
		r.dev.forget(c)
	case verdictReset:
		r.dev.forget(c)
		r.resets = append(r.resets, resetPacket{c.key, typeStream})
	}
}

// refuse answers a packet with a reset, unless it is one, and ends the connection that it is for.
func (r *receiver) refuse(c *Conn, key connKey, h *header) {
	if c != nil && h.kind == typeStream {
		c.mu.Lock()
		v := c.violated()
		c.mu.Unlock()
		r.conclude(c, v)
		return
	}
	if h.op != opReset {
		r.resets = append(r.resets, resetPacket{key, h.kind})
	}
}

// request handles the guest's wish to connect.
func (r *receiver) request(key connKey, h *header) {
	c := r.dev.accept(key, h)
	if c == nil {
		r.dev.stats.refused.Add(1)
		r.refuse(nil, key, h)
		return
	}
	r.wake = append(r.wake, c)
}
