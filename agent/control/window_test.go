package control

import (
	"io"
	"net"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// bigReq is answered with bigResponse.
var bigReq = &pb.Request{Op: &pb.Request_Mount{Mount: &pb.Mount{}}}

func bigResponse() *pb.Response {
	return &pb.Response{What: &pb.Response_Created{Created: &pb.Created{Id: string(make([]byte, 100<<10))}}}
}

// rawHost speaks in frames, and grants no window.
type rawHost struct {
	t    *testing.T
	conn net.Conn
}

func (h *rawHost) open(id uint32) {
	h.send(frame{kind: frameWindowUpdate, flags: flagSYN, stream: id}, nil)
}

func (h *rawHost) request(id uint32, req *pb.Request) {
	h.t.Helper()
	b, err := protocol.AppendMessage(nil, protocol.MaxMessage, protocol.KindRequest, req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.send(frame{kind: frameData, stream: id, length: uint32(len(b))}, b)
}

func (h *rawHost) send(f frame, body []byte) {
	h.t.Helper()
	b := make([]byte, headerSize, headerSize+len(body))
	f.put(b)
	if _, err := h.conn.Write(append(b, body...)); err != nil {
		h.t.Fatal(err)
	}
}

// receive gives the next frame, without its body.
func (h *rawHost) receive() frame {
	h.t.Helper()
	var b [headerSize]byte
	if _, err := io.ReadFull(h.conn, b[:]); err != nil {
		h.t.Fatal(err)
	}
	f := parseFrame(&b)
	if f.kind == frameData {
		if _, err := io.CopyN(io.Discard, h.conn, int64(f.length)); err != nil {
			h.t.Fatal(err)
		}
	}
	return f
}

// receiveData reads frames of a stream until n bytes have come.
func (h *rawHost) receiveData(id uint32, n int) {
	h.t.Helper()
	for n > 0 {
		f := h.receive()
		if f.stream != id || f.flags&flagRST != 0 {
			h.t.Fatalf("frame %+v; want more of stream %d", f, id)
		}
		if f.kind == frameData {
			n -= int(f.length)
		}
	}
	if n < 0 {
		h.t.Fatalf("%d bytes more came than were expected", -n)
	}
}

// TestAskingWithoutGranting fills a stream's window: the answer that does not fit keeps the stream busy, so a further request resets it, and other streams go on. What a host
// can make an agent hold is bounded that way.
func TestAskingWithoutGranting(t *testing.T) {
	addr, _ := serve(t, Config{})
	h := &rawHost{t: t, conn: greet(t, addr)}
	h.open(1)
	left, size := maxFrame, protocol.MessageHeaderSize+bigResponse().SizeVT()
	for ; left >= size; left -= size {
		h.request(1, bigReq)
		h.receiveData(1, size)
	}
	h.request(1, bigReq)
	h.receiveData(1, left)
	h.request(1, bigReq)
	if f := h.receive(); f.stream != 1 || f.flags&flagRST == 0 {
		t.Errorf("answer to a request during an operation: frame %+v; want that stream 1 is reset", f)
	}
	h.open(3)
	h.request(3, pingReq)
	for f := h.receive(); f.kind != frameData; f = h.receive() {
		if f.stream != 3 || f.flags&flagRST != 0 {
			t.Fatalf("frame %+v; want the answer on stream 3", f)
		}
	}
}
