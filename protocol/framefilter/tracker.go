package framefilter

import "math"

// The bounds of SPEC 3. Sizes are in bytes.
const (
	initialWindow = 256 << 10
	maxFrame      = 256 << 10
	maxWindow     = math.MaxInt32
)

// tracker is what both sides know of the connection's streams from the frames that went by. It decides what the peer may send. The caller serialises.
type tracker struct {
	role       Role
	maxStreams int

	streams map[uint32]*stream  // live: not reset by either side, not ended by both
	open    int                 // live streams that the host has not ended
	highest int64               // of the ids opened, -1 before the first
	skipped map[uint32]struct{} // odd ids below highest that were not opened yet

	late     lateAllowance
	pings    pingBucket
	pingsOut int // sent and not answered
}

// stream is a live stream.
type stream struct {
	granted   uint32 // bytes that the peer may still send
	window    int64  // bytes that this side may still send
	acked     bool   // by the guest
	peerEnded bool   // it sent FIN
	ended     bool   // this side sent FIN
}

func newTracker(role Role, maxStreams int) tracker {
	return tracker{
		role:       role,
		maxStreams: maxStreams,
		streams:    make(map[uint32]*stream),
		highest:    -1,
		skipped:    make(map[uint32]struct{}),
		late:       newLateAllowance(maxStreams),
	}
}

// receive accounts for a frame of the peer. It returns why the frame is refused, or "".
func (t *tracker) receive(h header) (refusal string) {
	switch {
	case h.version != 0:
		return "unknown version"
	case h.typ > typeGoAway:
		return "unknown type"
	case h.flags&^knownFlags != 0:
		return "unknown flags"
	case h.typ == typePing:
		return t.receivePing(h)
	case h.typ == typeGoAway:
		return receiveGoAway(h)
	}
	return t.receiveStreamFrame(h)
}

func (t *tracker) receivePing(h header) (refusal string) {
	switch {
	case h.stream != 0:
		return "ping on a stream"
	case h.flags == flagSYN && !t.pings.take():
		return "too many pings"
	case h.flags == flagACK && t.pingsOut == 0:
		return "answer to no ping"
	case h.flags == flagACK:
		t.pingsOut--
	case h.flags != flagSYN:
		return "ping with other flags than SYN or ACK"
	}
	return ""
}

func receiveGoAway(h header) (refusal string) {
	switch {
	case h.stream != 0:
		return "GoAway on a stream"
	case h.flags != 0:
		return "GoAway with flags"
	case h.length > maxGoAwayCode:
		return "GoAway with an unknown reason"
	}
	return ""
}

// receiveStreamFrame is receive for data and window updates.
func (t *tracker) receiveStreamFrame(h header) (refusal string) {
	if h.typ == typeData && h.length > maxFrame {
		return "data frame too long"
	}
	if h.flags&flagACK != 0 && t.role == Guest {
		return "ACK from the host"
	}
	if h.flags&flagSYN != 0 {
		if refusal := t.receiveSYN(h.stream); refusal != "" {
			return refusal
		}
	}
	if !t.wasOpened(h.stream) {
		return "frame for a stream that was never opened"
	}
	s := t.streams[h.stream]
	if s == nil {
		return t.late.take(h)
	}
	if refusal := s.receive(h); refusal != "" {
		return refusal
	}
	if h.flags&flagFIN != 0 && t.role == Guest {
		t.open--
	}
	t.settle(h, s)
	return ""
}

// receiveSYN admits a new stream of the host.
func (t *tracker) receiveSYN(id uint32) (refusal string) {
	switch {
	case t.role == Host:
		return "SYN from the guest"
	case id%2 == 0:
		return "SYN on an even id"
	case t.wasOpened(id):
		return "SYN on an id that was used"
	case t.newlySkipped(id)+len(t.skipped) > t.maxStreams:
		return "SYN on an id that skips too many"
	case t.open >= t.maxStreams:
		return "too many streams"
	case len(t.streams) >= 2*t.maxStreams:
		return "too many streams that the guest has not closed yet"
	}
	t.add(id)
	return ""
}

// receive accounts for a frame of the peer on a live stream.
func (s *stream) receive(h header) (refusal string) {
	switch {
	case h.flags&flagACK != 0 && s.acked:
		return "second ACK"
	case h.flags&flagFIN != 0 && s.peerEnded:
		return "second FIN"
	case h.typ == typeData && h.length > s.granted:
		return "data beyond the window"
	case h.typ == typeWindowUpdate && s.window+int64(h.length) > maxWindow:
		return "window update beyond the largest window"
	}
	if h.typ == typeData {
		s.granted -= h.length
	} else {
		s.window += int64(h.length)
	}
	s.acked = s.acked || h.flags&flagACK != 0
	s.peerEnded = s.peerEnded || h.flags&flagFIN != 0
	return ""
}

// send accounts for a frame of this side's yamux, which is trusted.
func (t *tracker) send(h header) {
	switch h.typ {
	case typePing:
		if h.flags == flagSYN {
			t.pingsOut++
		}
	case typeData, typeWindowUpdate:
		t.sendStreamFrame(h)
	}
}

func (t *tracker) sendStreamFrame(h header) {
	if h.flags&flagSYN != 0 && t.role == Host && !t.wasOpened(h.stream) {
		t.add(h.stream)
	}
	s := t.streams[h.stream]
	if s == nil {
		return
	}
	if h.typ == typeData {
		s.window -= int64(h.length)
	} else {
		s.granted += h.length
	}
	if h.flags&flagFIN != 0 && !s.ended {
		s.ended = true
		if t.role == Host {
			t.open--
		}
	}
	t.settle(h, s)
}

// add makes a live stream of an id that was not opened before.
func (t *tracker) add(id uint32) {
	delete(t.skipped, id)
	for i := t.highest + 2; i < int64(id); i += 2 {
		t.skipped[uint32(i)] = struct{}{}
	}
	t.highest = max(t.highest, int64(id))
	t.streams[id] = &stream{granted: initialWindow, window: initialWindow}
	t.open++
}

// settle forgets the stream of a frame that ended it for both sides. What the peer may have sent before it knew goes into the allowance for all such streams.
func (t *tracker) settle(h header, s *stream) {
	if h.flags&flagRST == 0 && !(s.ended && s.peerEnded) {
		return
	}
	delete(t.streams, h.stream)
	t.late.add(s.granted)
	if hostEnded := t.role == Host && s.ended || t.role == Guest && s.peerEnded; !hostEnded {
		t.open--
	}
}

// wasOpened says whether id is or was a stream. Ids are opened in nearly ascending order (concurrent opens of one yamux overtake each other),
// so this needs no memory of the dead.
func (t *tracker) wasOpened(id uint32) bool {
	_, skipped := t.skipped[id]
	return id%2 == 1 && int64(id) <= t.highest && !skipped
}

// newlySkipped is the number of ids that opening id would skip.
func (t *tracker) newlySkipped(id uint32) int {
	return int(max(0, (int64(id)-t.highest)/2-1))
}
