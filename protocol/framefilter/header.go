package framefilter

import (
	"encoding/binary"
	"fmt"

	"github.com/bellhop-vm/bellhop/protocol"
)

// headerSize is the size of a yamux frame's header in bytes. Only a data frame has a body behind it.
const headerSize = 12

// Frame types of yamux version 0.
const (
	typeData = iota
	typeWindowUpdate
	typePing
	typeGoAway
)

// Flags of a frame. A ping uses SYN for the question and ACK for the answer.
const (
	flagSYN = 1 << iota
	flagACK
	flagFIN
	flagRST

	knownFlags = flagSYN | flagACK | flagFIN | flagRST
)

// maxGoAwayCode is the highest reason that a GoAway may give: internal error.
const maxGoAwayCode = 2

// header is a decoded frame header.
type header struct {
	version uint8
	typ     uint8
	flags   uint16
	stream  uint32
	length  uint32 // data: of the body; window update: the increment; ping: its number; GoAway: the reason
}

func parseHeader(b *[headerSize]byte) header {
	return header{
		version: b[0],
		typ:     b[1],
		flags:   binary.BigEndian.Uint16(b[2:]),
		stream:  binary.BigEndian.Uint32(b[4:]),
		length:  binary.BigEndian.Uint32(b[8:]),
	}
}

// bodySize is the number of bytes that follow the header on the wire.
func (h header) bodySize() uint32 {
	if h.typ == typeData {
		return h.length
	}
	return 0
}

// FrameError says which frame of the peer broke the protocol, and how. It wraps protocol.ErrProtocol.
type FrameError struct {
	Version uint8
	Type    uint8
	Flags   uint16
	Stream  uint32
	Length  uint32
	Reason  string
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("%v: %s (yamux frame: version %d, type %d, flags %#x, stream %d, length %d)",
		protocol.ErrProtocol, e.Reason, e.Version, e.Type, e.Flags, e.Stream, e.Length)
}

// Unwrap gives protocol.ErrProtocol.
func (e *FrameError) Unwrap() error { return protocol.ErrProtocol }

func (h header) refused(reason string) *FrameError {
	return &FrameError{Version: h.version, Type: h.typ, Flags: h.flags, Stream: h.stream, Length: h.length, Reason: reason}
}
