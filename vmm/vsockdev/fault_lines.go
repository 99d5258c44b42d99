package vsockdev

import (
	"cmp"
	"io"
	"math"
	"slices"
	"syscall"
)

// faultLine is the faults of one direction that are still ahead, and how far it has come.
type faultLine struct {
	faults []Fault // by At
	passed uint64
}

// left returns how many bytes may pass before the next fault.
func (l *faultLine) left() uint64 {
	if len(l.faults) == 0 {
		return math.MaxUint64
	}
	return l.faults[0].At - l.passed
}

// limit returns how many of n bytes may pass now. It drops stalls whose gate is open, and has c woken when a shut one opens.
func (l *faultLine) limit(c *Conn, n int) int {
	for n > 0 && l.left() == 0 && l.faults[0].Action == FaultStall {
		if !l.faults[0].Gate.pass(c) {
			return 0
		}
		l.faults = l.faults[1:]
	}
	return int(min(uint64(n), l.left()))
}

// next takes the fault off that is reached, unless it is a stall, which limit deals with.
func (l *faultLine) next() (Fault, bool) {
	if l.left() != 0 || l.faults[0].Action == FaultStall {
		return Fault{}, false
	}
	f := l.faults[0]
	l.faults = l.faults[1:]
	return f, true
}

// faultLines is what a connection's faults come to. A nil one has none. It is guarded by Conn.mu.
type faultLines struct {
	out   faultLine // bytes given to the guest
	in    faultLine // bytes received, without stalls
	stall faultLine // bytes read: a stall towards the host holds them in the buffer, and credit then stops the guest
}

func newFaultLines(faults []Fault) *faultLines {
	if len(faults) == 0 {
		return nil
	}
	faults = slices.Clone(faults)
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	f := new(faultLines)
	for _, x := range faults {
		line := &f.in
		switch {
		case x.Direction == HostToGuest:
			line = &f.out
		case x.Action == FaultStall:
			line = &f.stall
		}
		line.faults = append(line.faults, x)
	}
	return f
}

// sendable returns how many of n bytes may go to the guest now.
func (f *faultLines) sendable(c *Conn, n int) int {
	if f == nil {
		return n
	}
	return f.out.limit(c, n)
}

// readable returns how many of n bytes may be read now.
func (f *faultLines) readable(c *Conn, n int) int {
	if f == nil {
		return n
	}
	return f.stall.limit(c, n)
}

// hasRead counts n bytes that were read.
func (f *faultLines) hasRead(n int) {
	if f != nil {
		f.stall.passed += uint64(n)
	}
}

// receiveFaulty is store for a connection with faults: bytes up to the next fault are kept, the rest is lost.
func (c *Conn) receiveFaulty(ch *chain, n int) verdict {
	in := &c.faults.in
	k := int(min(uint64(n), in.left()))
	c.store(ch, k)
	in.passed += uint64(k)
	if v := c.applyFaults(); v != verdictKeep {
		return v
	}
	if k < n {
		c.store(ch, n-k) // the fault has ended reading, so this only counts
	}
	return c.afterData()
}

// applyFaults carries out the faults whose place is reached.
func (c *Conn) applyFaults() verdict {
	if c.faults == nil {
		return verdictKeep
	}
	for _, line := range []*faultLine{&c.faults.out, &c.faults.in} {
		for f, ok := line.next(); ok; f, ok = line.next() {
			c.dev.stats.faults.Add(1)
			if f.Action == FaultReset {
				c.end(syscall.ECONNRESET, syscall.ECONNRESET)
				return verdictReset
			}
			c.cut(f)
		}
	}
	return verdictKeep
}

// cut ends the directions that f names, for both sides. Bytes that have arrived stay readable.
func (c *Conn) cut(f Fault) {
	flags := uint32(shutdownBoth)
	if f.Action == FaultHalfClose {
		flags = shutdownSend
		if f.Direction == GuestToHost {
			flags = shutdownReceive
		}
	}
	c.shutWant |= flags
	if flags&shutdownReceive != 0 && c.readErr == nil {
		c.readErr = io.EOF
	}
	if flags&shutdownSend != 0 && c.writeErr == nil {
		c.writeErr = syscall.EPIPE
	}
	c.readable.Broadcast()
	c.writable.Broadcast()
}
