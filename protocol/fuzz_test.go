package protocol

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// seed adds the vectors of files of testdata.
func seed(f *testing.F, files ...string) {
	for _, file := range files {
		for _, b := range readVectors(f, file) {
			f.Add(b)
		}
	}
}

func reject(file string) string { return filepath.Join("reject", file) }

// ownUp checks that an error is one of those that a reader may give.
func ownUp(t *testing.T, err error) {
	t.Helper()
	if _, isVersion := errors.AsType[*VersionError](err); isVersion {
		return
	}
	for _, allowed := range []error{ErrProtocol, ErrNotBellhop, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, allowed) {
			return
		}
	}
	t.Errorf("error %v is none of those that the docs name", err)
}

func FuzzReadHello(f *testing.F) {
	seed(f, "hello.txt", reject("hello.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHello(bytes.NewReader(b))
		if err != nil {
			ownUp(t, err)
			return
		}
		var w bytes.Buffer
		if err := WriteHello(&w, h); err != nil {
			if h.SizeVT() <= MaxHelloBody {
				t.Errorf("WriteHello() of what was read: %v", err)
			}
			return // a sparing encoding of what encodes longer
		}
		if again, err := ReadHello(&w); err != nil || !again.EqualVT(h) {
			t.Errorf("read, written and read again: %+v, %v; want %+v", again, err, h)
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	seed(f, "messages.txt", reject("request.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := ReadRequest(bytes.NewReader(b), MaxMessage)
		if err != nil {
			ownUp(t, err)
			return
		}
		var w bytes.Buffer
		if err := WriteMessage(&w, 2*MaxMessage, KindRequest, req); err != nil {
			t.Fatalf("WriteMessage() of what was read: %v", err)
		}
		if again, err := ReadRequest(&w, 2*MaxMessage); err != nil || !again.EqualVT(req) {
			t.Errorf("read, written and read again: %+v, %v; want %+v", again, err, req)
		}
	})
}

func FuzzReadResponse(f *testing.F) {
	seed(f, "messages.txt", reject("response.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, resp, err := ReadResponse(bytes.NewReader(b), MaxMessage)
		var m Message = resp
		if status, ok := errors.AsType[*StatusError](err); ok {
			m = status.PB
			if text := status.Error(); bytes.ContainsAny([]byte(text), "\x00\x1b\r\n\x7f") {
				t.Errorf("the error %q has control characters", text)
			}
			CodeOf(status)
		} else if err != nil {
			ownUp(t, err)
			return
		}
		var w bytes.Buffer
		if err := WriteMessage(&w, 2*MaxMessage, kind, m); err != nil {
			t.Fatalf("WriteMessage() of what was read: %v", err)
		}
		if again := readBack(&w); !equal(again, m) {
			t.Errorf("read, written and read again: %+v; want %+v", again, m)
		}
	})
}

func readBack(r io.Reader) Message {
	_, resp, err := ReadResponse(r, 2*MaxMessage)
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.PB
	}
	return resp
}

func FuzzReadPreamble(f *testing.F) {
	seed(f, "preamble.txt", reject("preamble.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadPreamble(bytes.NewReader(b))
		if err != nil {
			ownUp(t, err)
			return
		}
		var w bytes.Buffer
		if err := WritePreamble(&w, p); err != nil || !bytes.Equal(w.Bytes(), b[:PreambleSize]) {
			t.Errorf("read and written: %x, %v; want %x", w.Bytes(), err, b[:PreambleSize])
		}
	})
}

func FuzzReadAccept(f *testing.F) {
	for _, b := range readVectors(f, "accept.txt") {
		f.Add(b, uint32(7), uint64(0x0123456789abcdef))
	}
	f.Fuzz(func(t *testing.T, b []byte, generation uint32, offset uint64) {
		p := Preamble{Stream: pb.Stream_STREAM_STDOUT, Generation: generation, Offset: offset}
		var w bytes.Buffer
		if err := WriteAccept(&w, p); err != nil {
			t.Fatal(err)
		}
		err := ReadAccept(bytes.NewReader(b), p)
		if same := len(b) >= AcceptSize && bytes.Equal(b[:AcceptSize], w.Bytes()); same != (err == nil) {
			t.Errorf("ReadAccept(%x) = %v; the only answer is %x", b, err, w.Bytes())
		}
		if err != nil {
			ownUp(t, err)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	seed(f, "records.txt", reject("record.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			ownUp(t, err)
			return
		}
		if again := r.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("parsed and appended: %x; want %x", again, b)
		}
	})
}

func FuzzChunks(f *testing.F) {
	seed(f, "chunks.txt", reject("chunks.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		chunks, total, err := decodeChunks(r)
		if err != nil {
			ownUp(t, err)
			return
		}
		again := encodeChunks(chunks)
		again = AppendEnd(again[:len(again)-EndSize], total) // which need not be true
		if read := b[:len(b)-r.Len()]; !bytes.Equal(again, read) {
			t.Errorf("decoded and encoded: %x; want %x", again, read)
		}
	})
}
