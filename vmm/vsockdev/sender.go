package vsockdev

import "runtime/debug"

// burst is how many packets a connection may send before others have their turn.
const burst = 16

// spareResets is how many resets may wait beyond one for each possible connection.
const spareResets = 1024

// sender fills the ring from the host to the guest. Nothing waits in it but connections, each at most once, and a bounded
// number of resets: data stays in the slices of the Writes that wait.
type sender struct {
	queue
	first, last *Conn // connections with something to send
	turn        int   // packets that the first one has sent in a row
	resets      []resetPacket
}

// resetPacket is a reset to send. It needs no connection.
type resetPacket struct {
	key  connKey
	kind uint16
}

// wake sends what c has to send, as far as the guest has room.
func (s *sender) wake(c *Conn) {
	defer s.dev.recoverFault(debug.SetPanicOnFault(true))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(c)
	s.pump()
}

// reset tells the guest that a connection does not exist.
func (s *sender) reset(key connKey) {
	defer s.dev.recoverFault(debug.SetPanicOnFault(true))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addReset(resetPacket{key, typeStream})
	s.pump()
}

// wakeAll is wake for several connections, after resets.
func (s *sender) wakeAll(conns []*Conn, resets []resetPacket) {
	defer s.dev.recoverFault(debug.SetPanicOnFault(true))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range resets {
		s.addReset(r)
	}
	for _, c := range conns {
		s.add(c)
	}
	s.pump()
}

// process is the worker's part: the guest has offered buffers.
func (s *sender) process() {
	defer s.dev.recoverFault(debug.SetPanicOnFault(true))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pump()
}

func (s *sender) add(c *Conn) {
	if c.queued {
		return
	}
	c.queued = true
	if s.last == nil {
		s.first = c
	} else {
		s.last.next = c
	}
	s.last = c
}

// pop removes the first connection.
func (s *sender) pop() {
	c := s.first
	s.first = c.next
	if s.first == nil {
		s.last = nil
	}
	c.next, c.queued = nil, false
	s.turn = 0
}

func (s *sender) addReset(r resetPacket) {
	if len(s.resets) >= s.dev.cfg.MaxConnections+spareResets {
		s.dev.stats.resetsDropped.Add(1)
		return
	}
	s.resets = append(s.resets, r)
}

// drop forgets everything that waits: the guest's driver is gone.
func (s *sender) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.first != nil {
		s.pop()
	}
	s.resets = nil
}

// pump sends packets while there are packets and room. One call sends at most a ring full, so that the caller is not held
// up by others' data; the worker goes on.
func (s *sender) pump() {
	if s.ring == nil {
		return
	}
	for range s.ring.num {
		if !s.sendOne() {
			if s.ring != nil {
				s.flush()
			}
			return
		}
	}
	s.flush()
	s.goOn()
}

// sendOne sends a packet and reports whether it did.
func (s *sender) sendOne() bool {
	if s.first == nil && len(s.resets) == 0 || !s.nextChain(true, headerSize+1) {
		return false
	}
	n := s.nextPacket()
	if n == 0 {
		s.ring.untake()
		return false
	}
	s.ring.put(s.chain.head, n)
	s.dev.stats.packetsSent.Add(1)
	return true
}

// nextPacket puts the next packet into s.chain and returns its length, 0 if there is none. Resets go first: a connection
// of the same ports may follow.
func (s *sender) nextPacket() int {
	if len(s.resets) > 0 {
		return s.nextReset()
	}
	for s.first != nil {
		c := s.first
		n, more, v := c.fill(&s.chain)
		s.turn++
		if !more || s.turn >= burst {
			s.pop()
		}
		if more {
			s.add(c)
		}
		if v == verdictReset {
			s.dev.forget(c)
			s.addReset(resetPacket{c.key, typeStream})
		}
		if n > 0 {
			return n
		}
	}
	return 0
}

func (s *sender) nextReset() int {
	r := s.resets[0]
	s.resets = s.resets[1:]
	if len(s.resets) == 0 {
		s.resets = nil
	}
	h := header{
		srcCID: HostCID, dstCID: s.dev.cfg.GuestCID,
		srcPort: r.key.host, dstPort: r.key.guest,
		kind: r.kind, op: opReset,
	}
	var hdr [headerSize]byte
	h.encode(hdr[:])
	s.chain.writeAt(hdr[:], 0)
	return headerSize
}
