package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Kind says what the payload of a control message is (SPEC 4).
type Kind uint8

const (
	KindRequest  Kind = 1 // host to guest, a pb.Request
	KindProgress Kind = 2 // guest to host, a pb.Response; more follows
	KindResult   Kind = 3 // guest to host, a pb.Response; the operation is complete
	KindError    Kind = 4 // guest to host, a pb.Error; the operation is complete
)

const messageHeaderSize = 5

// ErrProtocol is wrapped by every error that says that the peer broke the protocol.
var ErrProtocol = errors.New("protocol error")

// Message is what a control message carries: a generated type of package pb. Decoding is not part of it, so that a program is linked with that of the messages only that it reads.
type Message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

// WriteMessage writes one message with one Write. The limit is the peer's max_message; a message above it is an error and nothing is written.
func WriteMessage(w io.Writer, limit int, kind Kind, m Message) error {
	n := m.SizeVT()
	if n > limit {
		return fmt.Errorf("cannot write message: %d bytes, the peer takes at most %d", n, limit)
	}
	b := make([]byte, messageHeaderSize+n)
	binary.BigEndian.PutUint32(b, uint32(n))
	b[4] = byte(kind)
	if _, err := m.MarshalToSizedBufferVT(b[messageHeaderSize:]); err != nil {
		return fmt.Errorf("cannot write message: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("cannot write message: %w", err)
	}
	return nil
}

// ReadRequest reads what a host may send. io.EOF means that the stream ended between messages; every other error ends the stream, and wraps
// ErrProtocol where the peer is at fault.
func ReadRequest(r io.Reader, limit int) (*pb.Request, error) {
	kind, size, err := readMessageHeader(r, limit)
	if err != nil {
		return nil, err
	}
	if kind != KindRequest {
		return nil, fmt.Errorf("%w: message of kind %d from a host", ErrProtocol, kind)
	}
	req := new(pb.Request)
	if err := readPayload(r, size, req.UnmarshalVT, requestElements); err != nil {
		return nil, err
	}
	return req, nil
}

// ReadResponse reads what a guest may send: a response with KindProgress or KindResult, or KindError and a *StatusError as the error when
// the operation failed. Other errors are as those of ReadRequest.
func ReadResponse(r io.Reader, limit int) (Kind, *pb.Response, error) {
	kind, size, err := readMessageHeader(r, limit)
	if err != nil {
		return 0, nil, err
	}
	switch kind {
	case KindProgress, KindResult:
		resp := new(pb.Response)
		if err := readPayload(r, size, resp.UnmarshalVT, responseElements); err != nil {
			return 0, nil, err
		}
		return kind, resp, nil
	case KindError:
		e := new(pb.Error)
		if err := readPayload(r, size, e.UnmarshalVT, nil); err != nil {
			return 0, nil, err
		}
		return kind, nil, &StatusError{PB: e}
	}
	return 0, nil, fmt.Errorf("%w: message of kind %d from a guest", ErrProtocol, kind)
}

func readMessageHeader(r io.Reader, limit int) (Kind, int, error) {
	var hdr [messageHeaderSize]byte
	if _, err := io.ReadFull(r, hdr[:]); err != nil {
		return 0, 0, err
	}
	n := binary.BigEndian.Uint32(hdr[:])
	if uint64(n) > uint64(limit) {
		return 0, 0, fmt.Errorf("%w: message of %d bytes, at most %d", ErrProtocol, n, limit)
	}
	return Kind(hdr[4]), int(n), nil
}

// readPayload reads and decodes size bytes.
func readPayload(r io.Reader, size int, decode func([]byte) error, repeated elements) error {
	payload, err := readGrowing(r, size)
	if err != nil {
		return err
	}
	if err := repeated.check(payload); err != nil {
		return err
	}
	if err := decode(payload); err != nil {
		return fmt.Errorf("%w: payload: %v", ErrProtocol, err)
	}
	return nil
}

// firstRead is what readGrowing allocates before anything has come, in bytes. Nearly all messages are shorter.
const firstRead = 16 << 10

// readGrowing reads size bytes, and never holds more than twice what has come (or firstRead): a peer that announces much and sends nothing costs little.
func readGrowing(r io.Reader, size int) ([]byte, error) {
	b := make([]byte, min(size, firstRead))
	for have := 0; ; {
		n, err := io.ReadFull(r, b[have:])
		if err != nil {
			return nil, noEOF(err)
		}
		have += n
		if have == size {
			return b, nil
		}
		longer := make([]byte, min(size, 2*have))
		copy(longer, b)
		b = longer
	}
}
