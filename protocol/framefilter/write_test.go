package framefilter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// frameOf is a data frame with a recognisable body.
func frameOf(n int) []byte {
	b := data(1, 0, uint32(n)).encode()
	for i := range b[headerSize:] {
		b[headerSize+i] = byte(i)
	}
	return b
}

func TestWriteMergesHeaderAndBody(t *testing.T) {
	for _, test := range []struct{ body, writes int }{
		{1, 1},
		{40, 1},
		{mergeSize - headerSize, 1},
		{mergeSize - headerSize + 1, 2},
		{maxFrame, 2},
	} {
		below := &fakeConn{}
		c := New(below, Host, Limits{})
		frame := frameOf(test.body)
		// As yamux does: the header, then the body.
		for _, part := range [][]byte{frame[:headerSize], frame[headerSize:]} {
			if n, err := c.Write(part); n != len(part) || err != nil {
				t.Errorf("body of %d: Write() = %d, %v; want %d, nil", test.body, n, err, len(part))
			}
		}
		if len(below.writes) != test.writes || !bytes.Equal(bytes.Join(below.writes, nil), frame) {
			t.Errorf("body of %d: %d writes; want %d, with the frame's bytes", test.body, len(below.writes), test.writes)
		}
	}
}

func TestWriteHoldsNoOtherHeader(t *testing.T) {
	for _, h := range []header{
		window(1, flagSYN, 0), window(1, 0, 5), window(1, flagRST, 0), data(1, flagFIN, 0),
		{typ: typePing, flags: flagSYN, length: 5},
		{typ: typeGoAway},
	} {
		below := &fakeConn{}
		c := New(below, Host, Limits{})
		if n, err := c.Write(h.encode()); n != headerSize || err != nil || len(below.writes) != 1 {
			t.Errorf("Write(%+v) = %d, %v with %d writes below; want %d, nil, 1", h, n, err, len(below.writes), headerSize)
		}
	}
}

// TestWriteSplits writes frames in pieces of every kind: the same bytes must come out.
func TestWriteSplits(t *testing.T) {
	all := bytes.Join([][]byte{window(1, flagSYN, 0).encode(), frameOf(3), frameOf(50), window(1, 0, 9).encode(), frameOf(1)}, nil)
	for size := 1; size <= len(all); size++ {
		below := &fakeConn{}
		c := New(below, Host, Limits{})
		if _, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{bytes.NewReader(all)}, make([]byte, size)); err != nil {
			t.Fatalf("pieces of %d: %v", size, err)
		}
		if got := bytes.Join(below.writes, nil); !bytes.Equal(got, all) {
			t.Errorf("pieces of %d: wrote %x; want %x", size, got, all)
		}
	}
}

func TestWriteFails(t *testing.T) {
	for _, test := range []struct{ writeMax, want int }{
		{1, 0},                // not even the header
		{headerSize + 4, 4},   // some of the body
		{headerSize + 39, 39}, // all but one
	} {
		t.Run(fmt.Sprint(test.writeMax), func(t *testing.T) {
			c := New(&fakeConn{writeMax: test.writeMax}, Host, Limits{})
			frame := frameOf(40)
			if n, err := c.Write(frame[:headerSize]); n != headerSize || err != nil {
				t.Fatalf("Write(header) = %d, %v; want %d, nil: it is held", n, err, headerSize)
			}
			if n, err := c.Write(frame[headerSize:]); n != test.want || !errors.Is(err, errFull) {
				t.Errorf("Write(body) = %d, %v; want %d, %v", n, err, test.want, errFull)
			}
		})
	}
}
