//go:build linux

package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// cutConn loses the accept record behind so many bytes.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Read(b []byte) (int, error) {
	record := make([]byte, protocol.AcceptSize)
	if _, err := io.ReadFull(c.Conn, record); err != nil { // the host has written all of it
		return 0, err
	}
	return copy(b, record[:c.left]), io.EOF
}

// TestLostAcceptRecord loses the accept record, whole and in part: the guest dials again and says the same, and the host's later connection is the stream's.
func TestLostAcceptRecord(t *testing.T) {
	h := newFakeHost(t)
	cuts := []int{0, 1, protocol.AcceptSize - 1}
	dialled := 0
	dial := func(ctx context.Context, port uint32) (net.Conn, error) {
		c, err := h.dial(ctx, port)
		if dialled++; err == nil && dialled <= len(cuts) {
			c = &cutConn{c, cuts[dialled-1]}
		}
		return c, err
	}
	s, err := Connect(t.Context(), &Config{Dial: dial, Budget: NewBudget(64 << 20)}, Options{Stdio: stdioFor(stdin)})
	if err != nil {
		t.Fatalf("Connect() = %v; want no error", err)
	}
	defer s.Close()
	files, err := s.ChildFiles()
	if err != nil {
		t.Fatal(err)
	}
	first := h.next()
	last := first
	for range cuts {
		if last = h.next(); last.Preamble != first.Preamble {
			t.Errorf("the guest dials again with %+v; want %+v", last.Preamble, first.Preamble)
		}
	}
	last.chunk("hi")
	process := dupFile(t, files[0])
	s.Start()
	b := make([]byte, 2)
	if _, err := io.ReadFull(process, b); err != nil || string(b) != "hi" {
		t.Errorf("the process reads %q, %v; want hi", b, err)
	}
}

// TestMeanwhileFails has a host that accepts one stream and is silent about the other: what fails meanwhile ends both.
func TestMeanwhileFails(t *testing.T) {
	h := newFakeHost(t)
	silent := make(chan struct{})
	dial := func(ctx context.Context, port uint32) (net.Conn, error) {
		if port == 1 {
			return h.dial(ctx, port)
		}
		close(silent)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	stdio := stdioFor(stdout, stderr)
	stdio[1].Port = 2
	var accepted *hostConn
	want := errors.New("no such user")
	_, err := Connect(t.Context(), &Config{Dial: dial, Budget: NewBudget(64 << 20)}, Options{Stdio: stdio, ConnectTimeout: time.Hour, Meanwhile: func(*Set) error {
		accepted = h.next()
		<-silent
		return want
	}})
	if err != want {
		t.Errorf("Connect() = %v; want %v", err, want)
	}
	if n, err := accepted.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the host reads %d bytes, %v; want the end of the connection", n, err)
	}
}

// TestCloseStdinAfterDetach closes the input when its connection is retired and the pipe was full: what the pipe had not taken is not counted, since it was dropped.
func TestCloseStdinAfterDetach(t *testing.T) {
	h := newFakeHost(t)
	s, files := newSet(t, h, Options{Stdio: stdioFor(stdin)})
	c := h.next()
	s.Start()
	go func() {
		for range 64 {
			c.chunk(strings.Repeat("x", 64<<10))
		}
	}()
	var last uint64
	still := 0
	eventually(t, "the pipe is full", func() bool {
		n := s.Info()[0].Offset
		if still++; n != last || n == 0 {
			last, still = n, 0
		}
		return still > 50
	})
	if err := s.Detach(&pb.Detach{Streams: []*pb.DetachStream{{Stream: stdin, Generation: 1}}}); err != nil {
		t.Fatalf("Detach() = %v; want no error", err)
	}
	total := s.CloseStdin()
	n, err := io.Copy(io.Discard, files[0])
	if err != nil || uint64(n) != total {
		t.Errorf("the process reads %d bytes, %v; CloseStdin() = %d", n, err, total)
	}
}
