package protocol

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// countingWriter counts the Writes: each costs a packet.
type countingWriter struct {
	bytes.Buffer
	writes int
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(b)
}

func TestOneWriteEach(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"WriteHello":    func(w io.Writer) error { return WriteHello(w, helloVectors[1].hello) },
		"WriteMessage":  func(w io.Writer) error { return WriteMessage(w, MaxMessage, KindRequest, messageVectors[3].message) },
		"WritePreamble": func(w io.Writer) error { return WritePreamble(w, Preamble{}) },
		"WriteAccept":   func(w io.Writer) error { return WriteAccept(w, Preamble{}) },
	} {
		var w countingWriter
		if err := write(&w); err != nil || w.writes != 1 {
			t.Errorf("%s: %d writes, %v; want 1, nil", name, w.writes, err)
		}
		failing := iotest.ErrReader(io.ErrClosedPipe)
		if err := write(failingWriter{failing}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s to a closed pipe: %v; want %v", name, err, io.ErrClosedPipe)
		}
	}
}

type failingWriter struct{ r io.Reader }

func (w failingWriter) Write([]byte) (int, error) { return w.r.Read(nil) }

// TestReadersTakeNoMore reads each vector from a stream that goes on, byte by byte.
func TestReadersTakeNoMore(t *testing.T) {
	const behind = "behind"
	for name, test := range map[string]struct {
		bytes []byte
		read  func(io.Reader) error
	}{
		"ReadHello":    {readVectors(t, "hello.txt")["agent"], func(r io.Reader) error { _, err := ReadHello(r); return err }},
		"ReadRequest":  {readVectors(t, "messages.txt")["kill"], func(r io.Reader) error { _, err := ReadRequest(r, MaxMessage); return err }},
		"ReadResponse": {readVectors(t, "messages.txt")["drained"], func(r io.Reader) error { _, _, err := ReadResponse(r, MaxMessage); return err }},
		"ReadPreamble": {readVectors(t, "preamble.txt")["stdin"], func(r io.Reader) error { _, err := ReadPreamble(r); return err }},
		"ReadAccept":   {readVectors(t, "accept.txt")["stdin"], func(r io.Reader) error { return ReadAccept(r, preambleVectors[0].preamble) }},
	} {
		r := iotest.OneByteReader(strings.NewReader(string(test.bytes) + behind))
		if err := test.read(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rest, err := io.ReadAll(r); err != nil || string(rest) != behind {
			t.Errorf("%s leaves %q, %v; want %q", name, rest, err, behind)
		}
	}
}

func TestEndBetweenMessages(t *testing.T) {
	if _, err := ReadRequest(strings.NewReader(""), MaxMessage); err != io.EOF {
		t.Errorf("ReadRequest() at the end = %v; want io.EOF", err)
	}
	if _, _, err := ReadResponse(strings.NewReader(""), MaxMessage); err != io.EOF {
		t.Errorf("ReadResponse() at the end = %v; want io.EOF", err)
	}
}

func TestHelloOfAnotherVersion(t *testing.T) {
	// The body is announced as too long: the version must be looked at first.
	_, err := ReadHello(strings.NewReader("bellhop\x00\x00\x02\x00\x07\xff\xff\xff\xff"))
	ve, ok := errors.AsType[*VersionError](err)
	if !ok || *ve != (VersionError{Major: 2, Minor: 7}) {
		t.Fatalf("ReadHello() = %v; want a *VersionError for 2.7", err)
	}
	if text := err.Error(); !strings.Contains(text, "2.7") || !strings.Contains(text, "1.0") {
		t.Errorf("the error %q does not name both versions", text)
	}
	if _, err := ReadHello(strings.NewReader("bellhop\x00\x00\x01\xff\xff\x00\x00\x00\x00")); err != nil {
		t.Errorf("a hello of version 1.65535: %v; want nil, as minor versions only add", err)
	}
}

func TestHelloLimit(t *testing.T) {
	h := &pb.Hello{Software: strings.Repeat("x", MaxHelloBody-3)} // a tag and a length of two bytes before it
	var w countingWriter
	if err := WriteHello(&w, h); err != nil || w.Len() != helloHeaderSize+MaxHelloBody {
		t.Fatalf("WriteHello() at the limit = %v, %d bytes; want nil, %d", err, w.Len(), helloHeaderSize+MaxHelloBody)
	}
	if got, err := ReadHello(&w); err != nil || !got.EqualVT(h) {
		t.Errorf("ReadHello() at the limit = %v", err)
	}
	h.Software += "x"
	w = countingWriter{}
	if err := WriteHello(&w, h); err == nil || w.writes != 0 {
		t.Errorf("WriteHello() above the limit = %v, %d writes; want an error, 0", err, w.writes)
	}
}

// requestOf gives a request whose payload has exactly size bytes, from 13 up.
func requestOf(size int) *pb.Request {
	req := &pb.Request{Op: &pb.Request_Unmount{Unmount: &pb.Unmount{Target: strings.Repeat("x", size)}}}
	over := req.SizeVT() - size
	req.GetUnmount().Target = strings.Repeat("x", size-over)
	for req.SizeVT() < size { // the lengths became shorter
		req.GetUnmount().Target += "x"
	}
	return req
}

func TestMessageLimit(t *testing.T) {
	for _, size := range []int{firstRead - 1, firstRead, firstRead + 1, 2*firstRead + 1, MaxMessage} {
		req := requestOf(size)
		var w countingWriter
		if err := WriteMessage(&w, size, KindRequest, req); err != nil {
			t.Errorf("WriteMessage() of %d at the limit = %v; want nil", size, err)
		}
		if got, err := ReadRequest(bytes.NewReader(w.Bytes()), size); err != nil || !got.EqualVT(req) {
			t.Errorf("ReadRequest() of %d at the limit = %v; want the request", size, err)
		}
		if _, err := ReadRequest(bytes.NewReader(w.Bytes()), size-1); !errors.Is(err, ErrProtocol) {
			t.Errorf("ReadRequest() of %d above the limit = %v; want ErrProtocol", size, err)
		}
		w = countingWriter{}
		if err := WriteMessage(&w, size-1, KindRequest, req); err == nil || w.writes != 0 {
			t.Errorf("WriteMessage() of %d above the limit = %v, %d writes; want an error, 0", size, err, w.writes)
		}
	}
}

// TestAnnouncedMemory has many peers that announce a message of the greatest length, send little, and then nothing.
func TestAnnouncedMemory(t *testing.T) {
	const streams = 64
	head := []byte{0, 0x10, 0, 0, byte(KindRequest)}
	before := allocated()
	for range streams {
		if _, err := ReadRequest(bytes.NewReader(append(head, make([]byte, 100)...)), MaxMessage); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("ReadRequest() = %v; want %v", err, io.ErrUnexpectedEOF)
		}
	}
	if got := (allocated() - before) / streams; got > 2*firstRead {
		t.Errorf("%d bytes allocated a message; want at most %d", got, 2*firstRead)
	}
}

// allocated is the number of bytes allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestChunkLength(t *testing.T) {
	for _, test := range []struct {
		header string
		limit  int
		want   int
		ok     bool
	}{
		{"\x00\x00\x00\x00", MaxChunk, 0, true},
		{"\x00\x00\x00\x01", MaxChunk, 1, true},
		{"\x00\x10\x00\x00", MaxChunk, MaxChunk, true},
		{"\x00\x10\x00\x01", MaxChunk, 0, false},
		{"\xff\xff\xff\xff", MaxChunk, 0, false},
		{"\x80\x00\x00\x00", MaxChunk, 0, false},
		{"\x00\x00\x00\x02", 1, 0, false},
	} {
		got, err := ChunkLength([]byte(test.header), test.limit)
		if got != test.want || (err == nil) != test.ok || err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("ChunkLength(%x, %d) = %d, %v; want %d, ok %t", test.header, test.limit, got, err, test.want, test.ok)
		}
	}
}

func TestTokenEqual(t *testing.T) {
	other := token
	other[TokenSize-1]++
	if !token.Equal(token) || token.Equal(other) || token.Equal(Token{}) {
		t.Error("Equal() does not compare the tokens")
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "0", "Web.1_x-y", strings.Repeat("x", MaxIDLength)} {
		if err := CheckID(id); err != nil {
			t.Errorf("CheckID(%q) = %v; want nil", id, err)
		}
	}
	for _, id := range []string{
		"", ".", "..", "../x", "a/b", "/", "a\x00", "\x00", "-a", "_a", ".a", "a b", "a\n", "ä", "a\xff", "a:b",
		strings.Repeat("x", MaxIDLength+1), strings.Repeat("x", 10<<10),
	} {
		err := CheckID(id)
		if !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("CheckID(%.20q) = %v; want ErrInvalidArgument", id, err)
		} else if len(err.Error()) > 300 {
			t.Errorf("CheckID(%.20q): an error of %d bytes; want a short one", id, len(err.Error()))
		}
	}
}
