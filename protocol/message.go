package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

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

// MessageHeaderSize is the size of what stands before a message's payload, in bytes.
const MessageHeaderSize = 5

// ErrProtocol is wrapped by every error that says that the peer broke the protocol.
var ErrProtocol = errors.New("protocol error")

// Message is what a control message carries: a generated type of package pb. Decoding is not part of it, so that a program is linked with that of the messages only that it reads.
type Message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

// WriteMessage writes one message with one Write. The limit is the peer's max_message; a message above it is an error and nothing is written.
func WriteMessage(w io.Writer, limit int, kind Kind, m Message) error {
	b, err := AppendMessage(nil, limit, kind, m)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("cannot write message: %w", err)
	}
	return nil
}

// AppendMessage appends a message to b. The limit is as in WriteMessage.
func AppendMessage(b []byte, limit int, kind Kind, m Message) ([]byte, error) {
	n := m.SizeVT()
	if n > limit {
		return b, fmt.Errorf("cannot write message: %d bytes, the peer takes at most %d", n, limit)
	}
	had := len(b)
	b = slices.Grow(b, MessageHeaderSize+n)[:had+MessageHeaderSize+n]
	message := b[had:]
	binary.BigEndian.PutUint32(message, uint32(n))
	message[4] = byte(kind)
	if _, err := m.MarshalToSizedBufferVT(message[MessageHeaderSize:]); err != nil {
		return b[:had], fmt.Errorf("cannot write message: %w", err)
	}
	return b, nil
}

// ReadRequest reads what a host may send. io.EOF means that the stream ended between messages; every other error ends the stream, and wraps
// ErrProtocol where the peer is at fault.
func ReadRequest(r io.Reader, limit int) (*pb.Request, error) {
	kind, size, err := readMessageHeader(r, limit)
	if err != nil {
		return nil, err
	}
	if err := checkRequestKind(kind); err != nil {
		return nil, err
	}
	payload, err := readGrowing(r, size)
	if err != nil {
		return nil, err
	}
	return ParseRequest(payload)
}

func checkRequestKind(kind Kind) error {
	if kind != KindRequest {
		return fmt.Errorf("%w: message of kind %d from a host", ErrProtocol, kind)
	}
	return nil
}

// ParseRequestHeader gives the size of the payload behind a request's header, which b holds. What is no header of a request, or above the limit, wraps ErrProtocol.
func ParseRequestHeader(b []byte, limit int) (size int, err error) {
	kind, size, err := parseMessageHeader(b, limit)
	if err != nil {
		return 0, err
	}
	return size, checkRequestKind(kind)
}

// ParseRequest decodes a request's payload and keeps no reference to it. The error wraps ErrProtocol.
func ParseRequest(payload []byte) (*pb.Request, error) {
	req := new(pb.Request)
	if err := parsePayload(payload, req.UnmarshalVT, requestElements); err != nil {
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
	var hdr [MessageHeaderSize]byte
	if _, err := io.ReadFull(r, hdr[:]); err != nil {
		return 0, 0, err
	}
	return parseMessageHeader(hdr[:], limit)
}

func parseMessageHeader(hdr []byte, limit int) (Kind, int, error) {
	n := binary.BigEndian.Uint32(hdr)
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
	return parsePayload(payload, decode, repeated)
}

func parsePayload(payload []byte, decode func([]byte) error, repeated elements) error {
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
