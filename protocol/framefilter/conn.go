package framefilter

import (
	"net"
	"sync"

	"github.com/bellhop-vm/bellhop/protocol"
)

// Role is the side of the control connection that the filter stands on.
type Role uint8

// The host opens streams, the guest accepts them.
const (
	Host Role = iota + 1
	Guest
)

// Limits bound what the peer may do. The zero value has the defaults of SPEC 9.
type Limits struct {
	// MaxStreams is the number of streams that the host may have open at once: what this side's hello says if it is the guest's, the peer's if it is the
	// host's. 0 is protocol.MaxStreams.
	MaxStreams int
}

// mergeSize is the size of the buffer in which a header meets its body. The rest of a longer frame is written from where it lies: a second Write does not
// matter beside so many bytes.
const mergeSize = 16 << 10

// Conn is the connection to give to yamux. As usual for a net.Conn, one Read and one Write may run at the same time, and everything else at any time;
// several concurrent Reads or Writes must not, as frames would be torn. (yamux has one reader and one writer.)
type Conn struct {
	net.Conn

	in  frameCursor // of Read
	out frameCursor // of Write

	held   bool   // out.header is complete, was reported as written, and waits for its body
	merged []byte // of size mergeSize

	mu    sync.Mutex // guards what follows
	state tracker
	err   *FrameError
}

// New wraps conn, on which the hellos have been exchanged and no frame yet. Closing the result closes conn.
func New(conn net.Conn, role Role, limits Limits) *Conn {
	if limits.MaxStreams <= 0 {
		limits.MaxStreams = protocol.MaxStreams
	}
	return &Conn{Conn: conn, state: newTracker(role, limits.MaxStreams), merged: make([]byte, mergeSize)}
}

// Err gives the *FrameError for which the filter closed the connection, or nil. It wraps protocol.ErrProtocol.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return nil
	}
	return c.err
}

// frameCursor follows a sequence of frames through reads or writes of any size.
type frameCursor struct {
	header [headerSize]byte
	have   int    // bytes of header
	body   uint32 // bytes still to come of the current frame's body
}

// skipBody passes over as much of the current body as b holds, and returns the rest of b.
func (f *frameCursor) skipBody(b []byte) []byte {
	n := min(uint64(f.body), uint64(len(b)))
	f.body -= uint32(n)
	return b[n:]
}

// takeHeader takes what b has of the current header. It is complete when ok.
func (f *frameCursor) takeHeader(b []byte) (rest []byte, h header, ok bool) {
	n := copy(f.header[f.have:], b)
	f.have += n
	if f.have < headerSize {
		return b[n:], header{}, false
	}
	f.have = 0
	h = parseHeader(&f.header)
	f.body = h.bodySize()
	return b[n:], h, true
}
