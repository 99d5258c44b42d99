package vsockdev

import (
	"io"
	"syscall"
)

// verdict is what a packet, received or sent, means for its connection.
type verdict uint8

const (
	verdictKeep  verdict = iota
	verdictSend          // the connection has something to send now
	verdictGone          // the connection is dead: remove it
	verdictReset         // the connection is dead: remove it and tell the guest
)

// receive handles a packet of the guest for this connection. ch is the packet, of which h is the header; h.length
// bytes of payload are known to be in it.
func (c *Conn) receive(h *header, ch *chain) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseDead {
		return verdictReset
	}
	if h.op == opReset {
		return c.receiveReset()
	}
	if c.phase == phaseAccepting && h.op != opShutdown || !c.updateCredit(h) {
		return c.violated()
	}
	switch {
	case h.op == opResponse && c.phase == phaseRequested:
		c.phase, c.connected = phaseOpen, true
		close(c.answered)
		if v := c.applyFaults(); v != verdictKeep {
			return v
		}
	case c.phase == phaseRequested:
		return c.violated()
	case h.op == opReadWrite:
		return c.receiveData(h, ch)
	case h.op == opShutdown:
		return c.receiveShutdown(h.flags)
	case h.op == opCreditUpdate:
	case h.op == opCreditRequest:
		c.ctl |= ctlCredit
	default:
		return c.violated()
	}
	return c.sendable()
}

// violated ends a connection whose guest broke the rules.
func (c *Conn) violated() verdict {
	c.dev.stats.violations.Add(1)
	c.end(syscall.ECONNRESET, syscall.ECONNRESET)
	return verdictReset
}

// receiveReset ends the connection as the guest wants. A reset confirms a close when both directions were over.
func (c *Conn) receiveReset() verdict {
	switch {
	case c.phase == phaseRequested:
		c.end(syscall.ECONNREFUSED, syscall.ECONNREFUSED)
	case (c.shutWant|c.shutPeer)&shutdownBoth == shutdownBoth || c.shutSent == shutdownBoth:
		c.end(io.EOF, syscall.EPIPE)
	default:
		c.dev.stats.resetsReceived.Add(1)
		c.end(syscall.ECONNRESET, syscall.ECONNRESET)
	}
	return verdictGone
}

// updateCredit takes over the guest's credit fields. It reports false when the guest says that it has read what was
// never sent. A count older than the last is ignored: a guest's threads may send theirs out of order.
func (c *Conn) updateCredit(h *header) bool {
	c.peerBufAlloc = h.bufAlloc
	ahead := int32(h.fwdCnt - c.peerFwdCnt)
	if ahead <= 0 {
		return true
	}
	if uint32(ahead) > c.txCnt-c.peerFwdCnt {
		return false
	}
	c.peerFwdCnt = h.fwdCnt
	return true
}

// credit returns how many bytes the guest has room for.
func (c *Conn) credit() int {
	inFlight := c.txCnt - c.peerFwdCnt
	if inFlight >= c.peerBufAlloc {
		return 0
	}
	return int(c.peerBufAlloc - inFlight)
}

// receiveData stores the payload, or hands it to the Read that waits.
func (c *Conn) receiveData(h *header, ch *chain) verdict {
	n := int(h.length)
	if uint32(n) > c.dev.cfg.ReceiveBuffer-(c.rxCnt-c.fwdCnt) {
		return c.violated()
	}
	c.dev.stats.bytesReceived.Add(uint64(n))
	if c.faults != nil {
		return c.receiveFaulty(ch, n)
	}
	c.store(ch, n)
	return c.afterData()
}

func (c *Conn) afterData() verdict {
	c.wantCredit()
	return c.sendable()
}

// store keeps the first n bytes of the packet's payload for the reader, or drops them when nobody will read.
func (c *Conn) store(ch *chain, n int) {
	c.rxCnt += uint32(n)
	if c.readErr != nil {
		c.fwdCnt += uint32(n)
		return
	}
	off := headerSize
	if c.recv.size == 0 && len(c.direct) > 0 {
		k := ch.readAt(c.direct[:min(n, len(c.direct))], off)
		c.direct = c.direct[k:]
		c.directN += k
		c.fwdCnt += uint32(k)
		off += k
		n -= k
	}
	c.recv.append(&c.dev.chunks, ch, off, n)
	c.readable.Signal()
}

// receiveShutdown notes what the guest will no longer do. When that is everything, the connection is over, and a reset confirms it.
func (c *Conn) receiveShutdown(flags uint32) verdict {
	c.shutPeer |= flags & shutdownBoth
	if c.shutPeer&shutdownSend != 0 && c.readErr == nil {
		c.readErr = io.EOF
		c.readable.Broadcast()
	}
	if c.shutPeer&shutdownReceive != 0 && c.writeErr == nil {
		c.writeErr = syscall.EPIPE
		c.writable.Broadcast()
	}
	if c.shutPeer == shutdownBoth {
		c.end(io.EOF, syscall.EPIPE)
		return verdictReset
	}
	return c.sendable()
}

// wantCredit notes, and reports, that the guest should be told how much was read: when it is half of what the smaller of
// the two buffers holds. Waiting for half of our own alone has frozen guests whose buffer is smaller.
func (c *Conn) wantCredit() bool {
	unknown := c.fwdCnt - c.fwdTold
	if unknown == 0 || unknown < min(c.dev.cfg.ReceiveBuffer, c.peerBufAlloc)/2 || c.phase == phaseDead {
		return false
	}
	c.ctl |= ctlCredit
	return true
}

// sendable says whether the sender must look at the connection.
func (c *Conn) sendable() verdict {
	if c.phase != phaseDead && (c.hasControl() || c.sendableBytes() > 0) {
		return verdictSend
	}
	return verdictKeep
}

func (c *Conn) hasControl() bool { return c.ctl != 0 || c.shutWant&^c.shutSent != 0 }

// sendableBytes returns how much data may go to the guest now.
func (c *Conn) sendableBytes() int {
	if len(c.out) == 0 || c.phase != phaseOpen || c.cannotWrite() != nil {
		return 0
	}
	return c.faults.sendable(c, min(len(c.out), c.credit()))
}

// fill puts the connection's next packet into ch, which has room for at least a header and a byte. It returns the
// packet's length, 0 when there is nothing to send; whether there is more; and what follows for the connection.
func (c *Conn) fill(ch *chain) (n int, more bool, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseDead {
		return 0, false, verdictKeep
	}
	h := header{
		srcCID: HostCID, dstCID: c.dev.cfg.GuestCID,
		srcPort: c.key.host, dstPort: c.key.guest,
		kind:     typeStream,
		bufAlloc: c.dev.cfg.ReceiveBuffer, fwdCnt: c.fwdCnt,
	}
	data := c.sendableBytes()
	switch {
	case c.ctl&ctlRequest != 0:
		h.op = opRequest
		c.ctl &^= ctlRequest
	case c.ctl&ctlResponse != 0:
		h.op = opResponse
		c.ctl &^= ctlResponse
	case data > 0:
		h.op = opReadWrite
		h.length = uint32(ch.writeAt(c.out[:data], headerSize))
	case c.shutWant&^c.shutSent != 0:
		h.op, h.flags = opShutdown, c.shutWant
		c.shutSent = c.shutWant
	case c.ctl&ctlCredit != 0:
		h.op = opCreditUpdate
	default:
		return 0, false, verdictKeep
	}
	var hdr [headerSize]byte
	h.encode(hdr[:])
	ch.writeAt(hdr[:], 0)
	c.ctl &^= ctlCredit // every packet carries the credit
	c.fwdTold = h.fwdCnt
	v = c.sent(int(h.length))
	if h.op == opResponse {
		v = c.applyFaults()
	}
	return headerSize + int(h.length), c.sendable() == verdictSend, v
}

// sent takes n bytes off a waiting Write.
func (c *Conn) sent(n int) verdict {
	if n == 0 {
		return verdictKeep
	}
	c.txCnt += uint32(n)
	c.out = c.out[n:]
	c.dev.stats.bytesSent.Add(uint64(n))
	if len(c.out) == 0 {
		c.writable.Broadcast() // waitWriteEnd may wait too
	}
	if c.faults != nil {
		c.faults.out.passed += uint64(n)
		return c.applyFaults()
	}
	return verdictKeep
}
