package protocol

import (
	"encoding/binary"
	"fmt"
)

// Sizes of the fixed parts of a data connection, in bytes (SPEC 6.1, 6.2).
const (
	ChunkHeaderSize = 4
	EndSize         = 12
	RecordSize      = 16
)

// PutChunkHeader writes the header of a chunk of n bytes, 1..MaxChunk, to b[:ChunkHeaderSize].
func PutChunkHeader(b []byte, n int) { binary.BigEndian.PutUint32(b, uint32(n)) }

// ChunkLength reads a chunk's header. 0 is the end, and is followed by the total as 8 bytes.
func ChunkLength(b []byte, maxChunk int) (int, error) {
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(maxChunk) {
		return 0, fmt.Errorf("%w: chunk of %d bytes, at most %d", ErrProtocol, n, maxChunk)
	}
	return int(n), nil
}

// AppendEnd appends the end of a stream of total bytes.
func AppendEnd(b []byte, total uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 0), total)
}

// RecordType says what a record means.
type RecordType uint8

const (
	RecordAck      RecordType = 1 // everything before Offset is received
	RecordEndAcked RecordType = 2 // all is received, nothing follows
	RecordStop     RecordType = 3 // no more is wanted, nothing follows
)

// StopReason says why a receiver wants no more.
type StopReason uint8

const (
	StopNone         StopReason = 0 // not a stop
	StopClosed       StopReason = 1 // the process closed its stdin, or is gone
	StopWriterFailed StopReason = 2 // the caller's writer failed
	StopDetached     StopReason = 3 // another attachment takes over, or the host detached
)

// Record is what the receiver of a stream sends to its sender (SPEC 6.2).
type Record struct {
	Type   RecordType
	Reason StopReason
	Offset uint64
}

// Append appends the record's RecordSize bytes.
func (r Record) Append(b []byte) []byte {
	b = append(b, byte(r.Type), byte(r.Reason), 0, 0, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint64(b, r.Offset)
}

// ParseRecord decodes b, of RecordSize bytes, strictly: what it accepts, Append gives back byte for byte.
func ParseRecord(b []byte) (Record, error) {
	if len(b) != RecordSize {
		return Record{}, fmt.Errorf("%w: record of %d bytes", ErrProtocol, len(b))
	}
	r := Record{Type: RecordType(b[0]), Reason: StopReason(b[1]), Offset: binary.BigEndian.Uint64(b[8:])}
	okReason := r.Reason == StopNone
	if r.Type == RecordStop {
		okReason = r.Reason >= StopClosed && r.Reason <= StopDetached
	}
	if r.Type < RecordAck || r.Type > RecordStop || !okReason || [6]byte(b[2:8]) != [6]byte{} {
		return Record{}, fmt.Errorf("%w: record of type %d, reason %d, or reserved bytes set", ErrProtocol, b[0], b[1])
	}
	return r, nil
}
