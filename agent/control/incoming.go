package control

import (
	"io"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// incoming puts a request together that comes in pieces. It holds at most twice what has come, or a small buffer: a host that announces much and sends nothing costs little.
type incoming struct {
	header [protocol.MessageHeaderSize]byte
	have   int    // bytes of header
	size   int    // of the payload, once the header is there
	body   []byte // what has come of the payload
}

// smallBody is what a payload's buffer has room for at first, in bytes. Nearly all requests are shorter.
const smallBody = 4 << 10

// take reads as many of the next n bytes of r as belong to the present request, and says how many those were. With the last one it gives the request. An error of r is an error of the connection; one that
// wraps protocol.ErrProtocol is the host's fault.
func (in *incoming) take(r io.Reader, n int) (taken int, req *pb.Request, err error) {
	if in.have < len(in.header) {
		taken = min(n, len(in.header)-in.have)
		if _, err := io.ReadFull(r, in.header[in.have:in.have+taken]); err != nil {
			return 0, nil, err
		}
		if in.have += taken; in.have < len(in.header) {
			return taken, nil, nil
		}
		if in.size, err = protocol.ParseRequestHeader(in.header[:], protocol.MaxMessage); err != nil {
			return taken, nil, err
		}
	}
	for taken < n && len(in.body) < in.size {
		piece := in.room(n - taken)
		if _, err := io.ReadFull(r, piece); err != nil {
			return taken, nil, err
		}
		in.body = in.body[:len(in.body)+len(piece)]
		taken += len(piece)
	}
	if len(in.body) < in.size {
		return taken, nil, nil
	}
	req, err = protocol.ParseRequest(in.body)
	in.reset()
	return taken, req, err
}

// room gives the place for at most n further bytes of the payload.
func (in *incoming) room(n int) []byte {
	if len(in.body) == cap(in.body) {
		longer := make([]byte, len(in.body), min(in.size, max(2*len(in.body), smallBody)))
		copy(longer, in.body)
		in.body = longer
	}
	have := len(in.body)
	return in.body[have:min(cap(in.body), have+n, in.size)]
}

// reset forgets the request. A small buffer is kept for the next one.
func (in *incoming) reset() {
	in.have, in.size = 0, 0
	if cap(in.body) > smallBody {
		in.body = nil
	}
	in.body = in.body[:0]
}
