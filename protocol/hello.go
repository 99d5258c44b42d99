package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// The version of the protocol that this package speaks. Peers with another major version do not understand each other.
const (
	MajorVersion = 1
	MinorVersion = 0
)

const helloHeaderSize = 16

var helloMagic = [8]byte{'b', 'e', 'l', 'l', 'h', 'o', 'p', 0}

// ErrNotBellhop means that the peer's first bytes are not those of a hello.
var ErrNotBellhop = errors.New("the peer does not speak the Bellhop protocol")

// VersionError means that the peer speaks another major version.
type VersionError struct {
	Major, Minor uint16 // the peer's
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("the peer speaks version %d.%d of the Bellhop protocol, this side %d.%d", e.Major, e.Minor, MajorVersion, MinorVersion)
}

// WriteHello writes a hello (SPEC 2) with one Write.
func WriteHello(w io.Writer, h *pb.Hello) error {
	n := h.SizeVT()
	if n > MaxHelloBody {
		return fmt.Errorf("cannot write hello: body of %d bytes, at most %d", n, MaxHelloBody)
	}
	b := make([]byte, helloHeaderSize+n)
	copy(b, helloMagic[:])
	binary.BigEndian.PutUint16(b[8:], MajorVersion)
	binary.BigEndian.PutUint16(b[10:], MinorVersion)
	binary.BigEndian.PutUint32(b[12:], uint32(n))
	if _, err := h.MarshalToSizedBufferVT(b[helloHeaderSize:]); err != nil {
		return fmt.Errorf("cannot write hello: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("cannot write hello: %w", err)
	}
	return nil
}

// ReadHello reads the peer's hello and no byte more. The error wraps ErrNotBellhop, a *VersionError, ErrProtocol, or that of the reader; the
// caller sets the deadline (HelloTimeout).
func ReadHello(r io.Reader) (*pb.Hello, error) {
	var hdr [helloHeaderSize]byte
	if _, err := io.ReadFull(r, hdr[:]); err != nil {
		return nil, fmt.Errorf("cannot read hello: %w", err)
	}
	if [8]byte(hdr[:8]) != helloMagic {
		return nil, fmt.Errorf("cannot read hello: %w (it began with %q)", ErrNotBellhop, hdr[:8])
	}
	if major := binary.BigEndian.Uint16(hdr[8:]); major != MajorVersion {
		return nil, fmt.Errorf("cannot read hello: %w", &VersionError{Major: major, Minor: binary.BigEndian.Uint16(hdr[10:])})
	}
	n := binary.BigEndian.Uint32(hdr[12:])
	if n > MaxHelloBody {
		return nil, fmt.Errorf("cannot read hello: %w: body of %d bytes, at most %d", ErrProtocol, n, MaxHelloBody)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("cannot read hello: %w", noEOF(err))
	}
	h := new(pb.Hello)
	if err := h.UnmarshalVT(body); err != nil {
		return nil, fmt.Errorf("cannot read hello: %w: %v", ErrProtocol, err)
	}
	if err := checkHello(h); err != nil {
		return nil, fmt.Errorf("cannot read hello: %w", err)
	}
	return h, nil
}

// checkHello refuses what no honest peer says, and limits that would make work impossible.
func checkHello(h *pb.Hello) error {
	if n := len(h.Instance); n != 0 && n != InstanceSize {
		return fmt.Errorf("%w: instance of %d bytes, must be %d", ErrProtocol, n, InstanceSize)
	}
	l := h.GetLimits()
	for _, limit := range []struct {
		name       string
		got, least uint32
	}{
		{"max_message", l.GetMaxMessage(), MinMessage},
		{"max_streams", l.GetMaxStreams(), MinStreams},
		{"max_chunk", l.GetMaxChunk(), MinChunk},
	} {
		if limit.got != 0 && limit.got < limit.least {
			return fmt.Errorf("%w: the peer's %s is %d, must be at least %d", ErrProtocol, limit.name, limit.got, limit.least)
		}
	}
	return nil
}

// noEOF turns a clean end of file in the middle of something into io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
