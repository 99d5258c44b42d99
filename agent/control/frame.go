package control

import "encoding/binary"

// headerSize is the size of a frame's header in bytes.
const headerSize = 12

// maxFrame bounds the body of a frame, and is the window with which a stream begins (SPEC 3), in bytes.
const maxFrame = 256 << 10

// frameType is the type of a yamux frame.
type frameType uint8

const (
	frameData         frameType = iota // length bytes follow
	frameWindowUpdate                  // the peer may send length bytes more
	framePing                          // length is its number
	frameGoAway                        // length is the reason
)

// Flags of a frame. A ping uses flagSYN for the question and flagACK for the answer.
const (
	flagSYN = 1 << iota
	flagACK
	flagFIN
	flagRST
)

// frame is a decoded header.
type frame struct {
	kind   frameType
	flags  uint16
	stream uint32
	length uint32
}

func parseFrame(b *[headerSize]byte) frame {
	return frame{
		kind:   frameType(b[1]),
		flags:  binary.BigEndian.Uint16(b[2:]),
		stream: binary.BigEndian.Uint32(b[4:]),
		length: binary.BigEndian.Uint32(b[8:]),
	}
}

// put writes the header to b, which has room for it.
func (f frame) put(b []byte) {
	b[0], b[1] = 0, byte(f.kind)
	binary.BigEndian.PutUint16(b[2:], f.flags)
	binary.BigEndian.PutUint32(b[4:], f.stream)
	binary.BigEndian.PutUint32(b[8:], f.length)
}
