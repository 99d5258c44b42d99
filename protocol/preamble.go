package protocol

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// TokenSize is the length of a token in bytes.
const TokenSize = 32

// Token names a stream that the host waits for. It is compared in constant time and used once.
type Token [TokenSize]byte

// Equal compares in constant time.
func (t Token) Equal(u Token) bool { return subtle.ConstantTimeCompare(t[:], u[:]) == 1 }

// Preamble is what a guest sends first on a data connection (SPEC 6).
type Preamble struct {
	Stream     pb.Stream
	Mode       pb.StdioMode
	Generation uint32
	Token      Token
	Offset     uint64 // output: of the first byte sent; input: of the next byte wanted
}

const (
	// PreambleSize and AcceptSize are the fixed sizes of the two records that open a data connection, in bytes.
	PreambleSize = 64
	AcceptSize   = 16

	preambleVersion = 1
)

var (
	preambleMagic = [8]byte{'b', 'e', 'l', 'l', 'h', 'o', 'p', 1}
	acceptMagic   = [4]byte{'b', 'h', 'o', 'k'}
)

// WritePreamble writes p with one Write.
func WritePreamble(w io.Writer, p Preamble) error {
	var b [PreambleSize]byte
	copy(b[:], preambleMagic[:])
	b[8] = preambleVersion
	b[9] = byte(p.Stream)
	b[10] = byte(p.Mode)
	binary.BigEndian.PutUint32(b[12:], p.Generation)
	copy(b[16:], p.Token[:])
	binary.BigEndian.PutUint64(b[48:], p.Offset)
	if _, err := w.Write(b[:]); err != nil {
		return fmt.Errorf("cannot write preamble: %w", err)
	}
	return nil
}

// ReadPreamble reads exactly PreambleSize bytes. What does not decode wraps ErrProtocol.
func ReadPreamble(r io.Reader) (Preamble, error) {
	var b [PreambleSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Preamble{}, fmt.Errorf("cannot read preamble: %w", err)
	}
	if [8]byte(b[:8]) != preambleMagic {
		return Preamble{}, fmt.Errorf("%w: preamble begins with %q", ErrProtocol, b[:8])
	}
	if b[8] != preambleVersion {
		return Preamble{}, fmt.Errorf("%w: preamble of version %d, this side knows %d", ErrProtocol, b[8], preambleVersion)
	}
	if b[9] > byte(pb.Stream_STREAM_STDERR) || b[10] > byte(pb.StdioMode_STDIO_MODE_DIRECT) || b[11] != 0 || binary.BigEndian.Uint64(b[56:]) != 0 {
		return Preamble{}, fmt.Errorf("%w: preamble with stream %d, mode %d, or reserved bytes set", ErrProtocol, b[9], b[10])
	}
	return Preamble{
		Stream:     pb.Stream(b[9]),
		Mode:       pb.StdioMode(b[10]),
		Generation: binary.BigEndian.Uint32(b[12:]),
		Token:      Token(b[16:48]),
		Offset:     binary.BigEndian.Uint64(b[48:]),
	}, nil
}

// WriteAccept answers p with one Write: the token is spent.
func WriteAccept(w io.Writer, p Preamble) error {
	var b [AcceptSize]byte
	copy(b[:], acceptMagic[:])
	binary.BigEndian.PutUint32(b[4:], p.Generation)
	binary.BigEndian.PutUint64(b[8:], p.Offset)
	if _, err := w.Write(b[:]); err != nil {
		return fmt.Errorf("cannot write accept record: %w", err)
	}
	return nil
}

// ReadAccept reads exactly AcceptSize bytes and checks that they answer p.
func ReadAccept(r io.Reader, p Preamble) error {
	var b [AcceptSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("cannot read accept record: %w", err)
	}
	if [4]byte(b[:4]) != acceptMagic || binary.BigEndian.Uint32(b[4:]) != p.Generation || binary.BigEndian.Uint64(b[8:]) != p.Offset {
		return fmt.Errorf("%w: accept record does not answer the preamble", ErrProtocol)
	}
	return nil
}
