package framefilter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
)

// fakeConn gives what incoming holds, at most chunk bytes a Read, and keeps what is written.
type fakeConn struct {
	net.Conn
	incoming bytes.Buffer
	chunk    int
	writes   [][]byte
	writeMax int // 0: unlimited; else a Write fails after as many bytes
	closed   bool
}

var errFull = errors.New("full")

func (c *fakeConn) Read(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	if c.chunk > 0 {
		p = p[:min(len(p), c.chunk)]
	}
	return c.incoming.Read(p)
}

func (c *fakeConn) Write(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	if c.writeMax > 0 && len(p) > c.writeMax {
		c.writes = append(c.writes, slices.Clone(p[:c.writeMax]))
		return c.writeMax, errFull
	}
	c.writes = append(c.writes, slices.Clone(p))
	return len(p), nil
}

func (c *fakeConn) Close() error {
	c.closed = true
	return nil
}

// encode gives the frame's bytes, with a body of zeros.
func (h header) encode() []byte {
	b := make([]byte, headerSize+h.bodySize())
	b[0], b[1] = h.version, h.typ
	binary.BigEndian.PutUint16(b[2:], h.flags)
	binary.BigEndian.PutUint32(b[4:], h.stream)
	binary.BigEndian.PutUint32(b[8:], h.length)
	return b
}

func data(id uint32, flags uint16, n uint32) header {
	return header{typ: typeData, flags: flags, stream: id, length: n}
}

func window(id uint32, flags uint16, n uint32) header {
	return header{typ: typeWindowUpdate, flags: flags, stream: id, length: n}
}

// step is a frame that the peer sends (in), or this side's yamux (out).
type step struct {
	out   bool
	frame header
}

func in(h header) step  { return step{frame: h} }
func out(h header) step { return step{out: true, frame: h} }

// play passes the steps through a filter, incoming ones in reads of at most chunk bytes, and gives the first error.
func play(role Role, chunk int, steps []step) (*Conn, *fakeConn, error) {
	below := &fakeConn{chunk: chunk}
	c := New(below, role, Limits{MaxStreams: 4})
	for _, s := range steps {
		if s.out {
			if _, err := c.Write(s.frame.encode()); err != nil {
				return c, below, err
			}
			continue
		}
		below.incoming.Write(s.frame.encode())
		if _, err := io.Copy(io.Discard, c); err != nil {
			return c, below, err
		}
	}
	return c, below, nil
}

func repeat(n int, s ...step) []step {
	var all []step
	for range n {
		all = append(all, s...)
	}
	return all
}

// openings are SYNs on the first n ids.
func openings(n int) []step {
	var all []step
	for i := range n {
		all = append(all, in(window(uint32(2*i+1), flagSYN, 0)))
	}
	return all
}

const (
	half = initialWindow / 2
	top  = maxWindow - initialWindow // the largest increment of a fresh stream
)

var (
	guestOpens = in(window(1, flagSYN, 0))  // what the guest's filter sees when stream 1 opens
	hostOpens  = out(window(1, flagSYN, 0)) // and the host's
	ping       = in(header{typ: typePing, flags: flagSYN})
)

// verdicts are sequences of frames, and why the last one is refused ("": none is).
var verdicts = []struct {
	name  string
	role  Role
	steps []step
	want  string
}{
	{"version, guest", Guest, []step{in(header{version: 1, typ: typePing, flags: flagSYN})}, "unknown version"},
	{"version, host", Host, []step{in(header{version: 1, typ: typePing, flags: flagSYN})}, "unknown version"},
	{"type, guest", Guest, []step{in(header{typ: 4})}, "unknown type"},
	{"type, host", Host, []step{in(header{typ: 255})}, "unknown type"},
	{"flags, guest", Guest, []step{in(window(1, flagSYN|0x10, 0))}, "unknown flags"},
	{"flags, host", Host, []step{hostOpens, in(window(1, 0x8000, 0))}, "unknown flags"},

	{"SYN from the guest", Host, []step{in(window(2, flagSYN, 0))}, "SYN from the guest"},
	{"SYN from the guest on the host's stream", Host, []step{hostOpens, in(data(1, flagSYN, 1))}, "SYN from the guest"},
	{"SYN on 0", Guest, []step{in(window(0, flagSYN, 0))}, "SYN on an even id"},
	{"SYN on an even id", Guest, []step{in(window(2, flagSYN, 0))}, "SYN on an even id"},
	{"SYN with data", Guest, []step{in(data(1, flagSYN, 1)), in(data(1, 0, 1))}, ""},
	{"SYN twice", Guest, []step{guestOpens, guestOpens}, "SYN on an id that was used"},
	{"SYN on a closed id", Guest, []step{guestOpens, in(window(1, flagRST, 0)), guestOpens}, "SYN on an id that was used"},
	{"SYNs overtake", Guest, []step{in(window(5, flagSYN, 0)), in(window(1, flagSYN, 0)), in(window(3, flagSYN, 0))}, ""},
	{"SYN overtakes, then twice", Guest, []step{in(window(3, flagSYN, 0)), in(window(1, flagSYN, 0)), in(window(1, flagSYN, 0))}, "SYN on an id that was used"},
	{"SYN skips as many as may be", Guest, []step{in(window(9, flagSYN, 0))}, ""},
	{"SYN skips too many", Guest, []step{in(window(11, flagSYN, 0))}, "SYN on an id that skips too many"},
	{"SYNs skip too many together", Guest, []step{in(window(7, flagSYN, 0)), in(window(13, flagSYN, 0))}, "SYN on an id that skips too many"},
	{"SYN on the last id", Guest, []step{in(window(1<<32-1, flagSYN, 0))}, "SYN on an id that skips too many"},
	{"streams at the limit", Guest, openings(4), ""},
	{"streams above the limit", Guest, openings(5), "too many streams"},
	{"streams the host has closed do not count", Guest, append(openings(4), in(window(1, flagFIN, 0)), in(window(9, flagSYN, 0))), ""},
	{"streams the guest has closed count", Guest, append(openings(4), out(window(1, flagFIN, 0)), in(window(9, flagSYN, 0))), "too many streams"},
	{"streams the guest has reset do not count", Guest, append(openings(4), out(window(1, flagRST, 0)), in(window(9, flagSYN, 0))), ""},
	{"streams that the guest does not close", Guest, openAndEnd(9), "too many streams that the guest has not closed yet"},

	{"data, never opened, guest", Guest, []step{in(data(1, 0, 1))}, "frame for a stream that was never opened"},
	{"data, never opened, host", Host, []step{hostOpens, in(data(3, 0, 1))}, "frame for a stream that was never opened"},
	{"window, never opened, guest", Guest, []step{guestOpens, in(window(3, 0, 1))}, "frame for a stream that was never opened"},
	{"window, never opened, host", Host, []step{in(window(1, flagACK, 0))}, "frame for a stream that was never opened"},
	{"RST, never opened", Host, []step{in(window(1, flagRST, 0))}, "frame for a stream that was never opened"},
	{"data on stream 0", Guest, []step{guestOpens, in(data(0, 0, 1))}, "frame for a stream that was never opened"},
	{"data on an even id", Host, []step{hostOpens, out(window(3, flagSYN, 0)), in(data(2, 0, 1))}, "frame for a stream that was never opened"},
	{"data on a skipped id", Guest, []step{in(window(3, flagSYN, 0)), in(data(1, 0, 1))}, "frame for a stream that was never opened"},

	{"data to the window's end, guest", Guest, []step{guestOpens, in(data(1, 0, half)), in(data(1, 0, half))}, ""},
	{"data beyond the window, guest", Guest, []step{guestOpens, in(data(1, 0, half)), in(data(1, 0, half+1))}, "data beyond the window"},
	{"data beyond the window, host", Host, []step{hostOpens, in(data(1, 0, initialWindow)), in(data(1, 0, 1))}, "data beyond the window"},
	{"data in a granted window, host", Host, []step{hostOpens, in(data(1, 0, initialWindow)), out(window(1, 0, 2)), in(data(1, 0, 2))}, ""},
	{"data beyond a granted window, guest", Guest, []step{guestOpens, in(data(1, 0, initialWindow)), out(window(1, flagACK, 2)), in(data(1, 0, 3))}, "data beyond the window"},
	{"longest frame", Guest, []step{guestOpens, out(window(1, 0, initialWindow)), in(data(1, 0, maxFrame))}, ""},
	{"too long a frame within the window, guest", Guest, []step{guestOpens, out(window(1, 0, initialWindow)), in(data(1, 0, maxFrame+1))}, "data frame too long"},
	{"too long a frame, host", Host, []step{hostOpens, in(header{typ: typeData, stream: 1, length: maxFrame + 1})}, "data frame too long"},
	{"empty data", Host, []step{hostOpens, in(data(1, 0, 0))}, ""},

	{"largest window, host", Host, []step{hostOpens, in(window(1, flagACK, top))}, ""},
	{"window too large, host", Host, []step{hostOpens, in(window(1, flagACK, top+1))}, "window update beyond the largest window"},
	{"window too large in two steps, guest", Guest, []step{guestOpens, in(window(1, 0, top)), in(window(1, 0, 1))}, "window update beyond the largest window"},
	{"window used and granted again", Guest, []step{guestOpens, in(window(1, 0, top)), out(data(1, flagACK, 5)), in(window(1, 0, 5))}, ""},
	{"window wraps 32 bits", Host, []step{hostOpens, in(window(1, 0, 1<<32-1))}, "window update beyond the largest window"},

	{"ACK from the host", Guest, []step{guestOpens, in(window(1, flagACK, 0))}, "ACK from the host"},
	{"second ACK", Host, []step{hostOpens, in(window(1, flagACK, 0)), in(data(1, flagACK, 1))}, "second ACK"},
	{"second FIN, guest", Guest, []step{guestOpens, in(window(1, flagFIN, 0)), in(window(1, flagFIN, 0))}, "second FIN"},
	{"second FIN, host", Host, []step{hostOpens, in(data(1, flagFIN, 1)), in(window(1, flagFIN, 0))}, "second FIN"},
	{"data behind a FIN crossed inside the peer", Host, []step{hostOpens, in(window(1, flagFIN, 0)), in(data(1, 0, 1))}, ""},
	{"FIN without ACK", Host, []step{hostOpens, out(window(1, flagFIN, 0)), in(window(1, flagFIN, 0))}, ""},

	{"late frames, host", Host, []step{hostOpens, out(window(1, flagRST, 0)), in(window(1, flagACK, 0)), in(data(1, 0, 9)), in(window(1, flagFIN, 0)), in(window(1, flagRST, 0))}, ""},
	{"late frames, guest", Guest, []step{guestOpens, out(window(1, flagRST, 0)), in(data(1, 0, initialWindow)), in(window(1, flagFIN, 0))}, ""},
	{"late data beyond the window, host", Host, []step{hostOpens, out(window(1, flagRST, 0)), in(data(1, 0, initialWindow)), in(data(1, 0, 1))}, "too much data for closed streams"},
	{"late data after both FINs", Guest, []step{guestOpens, in(window(1, flagFIN, 0)), out(window(1, flagFIN, 0)), in(data(1, 0, initialWindow)), in(data(1, 0, 1))}, "too much data for closed streams"},
	{"late data counts what was used", Guest, []step{guestOpens, in(data(1, 0, initialWindow)), out(window(1, flagRST, 0)), in(data(1, 0, 1))}, "too much data for closed streams"},
	{"late frames, as many as may be", Host, append([]step{hostOpens, out(window(1, flagRST, 0))}, repeat(lateFramesPerStream, in(window(1, 0, 1)))...), ""},
	{"too many late frames, host", Host, append([]step{hostOpens, out(window(1, flagRST, 0))}, repeat(lateFramesPerStream+1, in(window(1, 0, 1)))...), "too many frames for closed streams"},
	{"too many late empty data frames, guest", Guest, append([]step{guestOpens, out(window(1, flagRST, 0))}, repeat(lateFramesPerStream+1, in(data(1, 0, 0)))...), "too many frames for closed streams"},

	{"pings, a burst", Guest, repeat(pingBurst, ping), ""},
	{"pings, above a burst, guest", Guest, repeat(pingBurst+1, ping), "too many pings"},
	{"pings, above a burst, host", Host, repeat(pingBurst+1, ping), "too many pings"},
	{"answer to a ping", Host, []step{out(header{typ: typePing, flags: flagSYN}), in(header{typ: typePing, flags: flagACK})}, ""},
	{"answer to no ping", Host, []step{in(header{typ: typePing, flags: flagACK})}, "answer to no ping"},
	{"two answers to a ping", Guest, []step{out(header{typ: typePing, flags: flagSYN}), in(header{typ: typePing, flags: flagACK}), in(header{typ: typePing, flags: flagACK})}, "answer to no ping"},
	{"ping without flags", Guest, []step{in(header{typ: typePing})}, "ping with other flags"},
	{"ping with SYN and ACK", Host, []step{in(header{typ: typePing, flags: flagSYN | flagACK})}, "ping with other flags"},
	{"ping on a stream", Host, []step{hostOpens, in(header{typ: typePing, flags: flagSYN, stream: 1})}, "ping on a stream"},

	{"GoAway, guest", Guest, []step{in(header{typ: typeGoAway})}, ""},
	{"GoAway, host", Host, []step{in(header{typ: typeGoAway, length: maxGoAwayCode})}, ""},
	{"GoAway with an unknown reason", Host, []step{in(header{typ: typeGoAway, length: maxGoAwayCode + 1})}, "GoAway with an unknown reason"},
	{"GoAway with flags", Guest, []step{in(header{typ: typeGoAway, flags: flagSYN})}, "GoAway with flags"},
	{"GoAway on a stream", Guest, []step{in(header{typ: typeGoAway, stream: 1})}, "GoAway on a stream"},
}

// openAndEnd are SYN and FIN of the host on the first n ids.
func openAndEnd(n int) []step {
	var all []step
	for i := range n {
		all = append(all, in(window(uint32(2*i+1), flagSYN|flagFIN, 0)))
	}
	return all
}

func TestVerdicts(t *testing.T) {
	for _, test := range verdicts {
		for _, chunk := range []int{1, headerSize + 1, 0} {
			c, below, err := play(test.role, chunk, test.steps)
			if test.want == "" {
				if err != nil {
					t.Errorf("%s, reads of %d: error %v; want none", test.name, chunk, err)
				}
				continue
			}
			var refused *FrameError
			if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, test.want) {
				t.Errorf("%s, reads of %d: error %v; want %q", test.name, chunk, err, test.want)
				continue
			}
			if last := test.steps[len(test.steps)-1].frame; refused.Stream != last.stream || refused.Length != last.length {
				t.Errorf("%s, reads of %d: refused %v; want the last frame %+v", test.name, chunk, refused, last)
			}
			checkRefused(t, test.name, c, below)
		}
	}
}

// checkRefused checks what holds after any violation.
func checkRefused(t *testing.T, name string, c *Conn, below *fakeConn) {
	t.Helper()
	if err := c.Err(); !errors.Is(err, protocol.ErrProtocol) {
		t.Errorf("%s: Err() = %v; want protocol.ErrProtocol", name, err)
	}
	if !below.closed {
		t.Errorf("%s: the connection is open; want closed", name)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != c.Err() {
		t.Errorf("%s: Read() after the refusal = %d, %v; want 0, %v", name, n, err, c.Err())
	}
	if _, err := c.Write(header{typ: typeGoAway}.encode()); err != c.Err() {
		t.Errorf("%s: Write() after the refusal = %v; want %v", name, err, c.Err())
	}
}

func TestRefusedFrameNeverPasses(t *testing.T) {
	below := &fakeConn{}
	below.incoming.Write(header{typ: typeGoAway}.encode())
	below.incoming.Write(window(2, flagSYN, 0).encode())
	c := New(below, Host, Limits{})
	got, err := io.ReadAll(c)
	if len(got) >= 2*headerSize || err == nil {
		t.Errorf("ReadAll() = %d bytes, %v; want less than both frames, and an error", len(got), err)
	}
}

func TestPingRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &fakeConn{}
		c := New(below, Guest, Limits{})
		send := func() error {
			below.incoming.Write(ping.frame.encode())
			_, err := io.Copy(io.Discard, c)
			return err
		}
		for i := range pingBurst + 40 {
			if i >= pingBurst {
				time.Sleep(pingInterval) // virtual time: the rate itself is under test
			}
			if err := send(); err != nil {
				t.Fatalf("ping %d: %v; want nil", i, err)
			}
		}
		time.Sleep(pingInterval - time.Nanosecond)
		if err := send(); err == nil {
			t.Error("a ping before its time: no error; want one")
		}
	})
}

// TestDeadStreamsLeaveNothing opens and ends streams in every way, for ever, and looks at what is kept.
func TestDeadStreamsLeaveNothing(t *testing.T) {
	tr := newTracker(Guest, 4)
	for i := range uint32(100_000) {
		id := 2*i + 1
		if i%8 == 0 && i > 0 {
			id = 2*(i+1) + 1 // overtakes the next one
		} else if i%8 == 1 && i > 1 {
			id = 2*(i-1) + 1
		}
		if refusal := tr.receive(window(id, flagSYN, 0)); refusal != "" {
			t.Fatalf("stream %d: %s", id, refusal)
		}
		switch i % 3 {
		case 0:
			tr.receive(window(id, flagRST, 0))
		case 1:
			tr.send(window(id, flagRST, 0))
		case 2:
			tr.receive(window(id, flagFIN, 0))
			tr.send(window(id, flagFIN, 0))
		}
	}
	if len(tr.streams) != 0 || tr.open != 0 || len(tr.skipped) != 0 {
		t.Errorf("%d records, %d open, %d skipped; want 0, 0, 0", len(tr.streams), tr.open, len(tr.skipped))
	}
	if tr.late.bytes > tr.late.maxBytes || tr.late.frames > tr.late.maxFrames {
		t.Errorf("late allowance %+v is above its bounds", tr.late)
	}
}

// TestNoAllocation holds the promise that a frame costs no memory, either way.
func TestNoAllocation(t *testing.T) {
	frame := data(1, 0, 40).encode()
	c := New(&endless{frames: frame}, Guest, Limits{})
	c.state.receive(window(1, flagSYN, 0))
	buf := make([]byte, len(frame))
	allocs := testing.AllocsPerRun(1000, func() {
		io.ReadFull(c, buf)
		c.state.streams[1].granted = initialWindow
		c.Write(frame[:headerSize])
		c.Write(frame[headerSize:])
	})
	if err := c.Err(); allocs != 0 || err != nil {
		t.Errorf("%v allocations a frame, Err() = %v; want 0, nil", allocs, err)
	}
}
