package hostclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// What a hostile guest may answer to an operation: the operation fails with a protocol error, and the client connects again.
func TestHostileAnswers(t *testing.T) {
	response := func(r *pb.Response) func(*fakeCall) { return func(c *fakeCall) { c.result(r) } }
	raw := func(b ...byte) func(*fakeCall) { return func(c *fakeCall) { c.st.Write(b) } }
	tests := []struct {
		name   string
		answer func(*fakeCall)
	}{
		{"a result of another operation", response(&pb.Response{What: &pb.Response_Killed{Killed: &pb.Killed{}}})},
		{"a result of no type", response(&pb.Response{})},
		{"a progress that the operation does not have", func(c *fakeCall) { c.progress(pong()) }},
		{"a request", func(c *fakeCall) { c.send(protocol.KindRequest, c.req) }},
		{"an unknown kind", raw(0, 0, 0, 0, 77)},
		{"a payload that does not decode", raw(0, 0, 0, 2, 3, 0xff, 0xff)},
		{"an error that does not decode", raw(0, 0, 0, 2, 4, 0xff, 0xff)},
		{"a message above the limit", raw(0, 0x10, 0, 1, 3)},
		{"a message of 4 GiB", raw(0xff, 0xff, 0xff, 0xff, 3)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkLeaks(t)
			g := newFakeGuest(t)
			g.handler = func(c *fakeCall) {
				if c.req.GetPing() != nil {
					c.result(pong())
					return
				}
				tt.answer(c)
			}
			c := connect(t, g, nil)
			if _, err := c.Info(t.Context()); !errors.Is(err, protocol.ErrProtocol) {
				t.Errorf("Info() = %v; want a protocol error", err)
			}
			if err := c.Ping(t.Context()); err != nil {
				t.Errorf("Ping() = %v; want no error, on a new connection", err)
			}
			if dials, _ := g.count(); dials != 2 {
				t.Errorf("the client dialled %d times; want 2", dials)
			}
		})
	}
}

// A message behind the result must not be taken for the answer to the next operation.
func TestHostileSecondResult(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.handler = func(c *fakeCall) {
		c.result(pong())
		if dials, _ := g.count(); dials == 1 {
			c.result(pong())
		}
	}
	c := connect(t, g, nil)
	if err := c.Ping(t.Context()); err != nil && !errors.Is(err, protocol.ErrProtocol) {
		t.Errorf("Ping() = %v; want no error, or a protocol error", err)
	}
	eventually(t, "connected again", func() bool {
		dials, _ := g.count()
		return dials == 2
	})
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v; want no error, on a new connection", err)
	}
}

// An answer that trickles in, or stays away, holds up nobody else.
func TestSlowAnswerHoldsUpNobody(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	begun := make(chan struct{})
	g.handler = func(c *fakeCall) {
		if c.req.GetPing() != nil {
			c.result(pong())
			return
		}
		c.st.Write([]byte{0, 0, 1, 0, 3, 1, 2}) // 2 of 256 bytes
		close(begun)
	}
	c := connect(t, g, nil)
	done := make(chan struct{})
	go func() { _, _ = c.Info(t.Context()); close(done) }()
	<-begun
	for range 100 {
		if err := c.Ping(t.Context()); err != nil {
			t.Fatalf("Ping() = %v; want no error", err)
		}
	}
	c.Close()
	<-done
}

// frame makes a yamux frame.
func frame(kind byte, flags uint16, id, length uint32, body ...byte) []byte {
	b := make([]byte, 12, 12+len(body))
	b[1] = kind
	binary.BigEndian.PutUint16(b[2:], flags)
	binary.BigEndian.PutUint32(b[4:], id)
	binary.BigEndian.PutUint32(b[8:], length)
	return append(b, body...)
}

// What a hostile guest may send below the operations: it ends its own connection, and costs the host nothing that stays.
func TestHostileFrames(t *testing.T) {
	const (
		data, window, ping = 0, 1, 2
		syn, ack           = 1, 2
	)
	tests := []struct {
		name  string
		bytes []byte
	}{
		{"garbage", bytes.Repeat([]byte{0xa5}, 1000)},
		{"SYN", frame(window, syn, 2, 0)},
		{"a SYN flood", bytes.Repeat(frame(window, syn, 2, 0), 10000)},
		{"data for a stream that is not open", frame(data, 0, 99, 1, 'x')},
		{"a window for a stream that is not open", frame(window, 0, 99, 1)},
		{"a ping flood", bytes.Repeat(frame(ping, syn, 0, 1), 100000)},
		{"a huge data frame", frame(data, ack, 1, 1<<31)},
		{"a window that overflows", frame(window, ack, 1, 1<<32-1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkLeaks(t)
			g := newFakeGuest(t)
			g.after = func(conn net.Conn) error {
				go io.Copy(io.Discard, conn)
				conn.Write(tt.bytes)
				_, err := conn.Read(make([]byte, 1)) // hangs until the host hangs up
				return err
			}
			c := connect(t, g, &Config{ReconnectTimeout: -1})
			goroutines := runtime.NumGoroutine()
			call := make(chan error, 1)
			go func() { call <- c.Ping(t.Context()) }()
			select {
			case <-c.Done():
			case <-time.After(30 * time.Second):
				t.Fatal("the client still has the connection after 30 s; want it closed")
			}
			if err := <-call; err == nil {
				t.Error("Ping() has no error; want one")
			}
			if err := c.Err(); !errors.Is(err, protocol.ErrProtocol) {
				t.Errorf("Err() = %v; want a protocol error", err)
			}
			if n := runtime.NumGoroutine(); n > goroutines+10 {
				t.Errorf("%d goroutines, %d before; want no growth", n, goroutines)
			}
		})
	}
}

// Streams that are never acknowledged, or reset at once, end in an error and not in a loop.
func TestHostileStreams(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.onStream = func(st *yamux.Stream) {
		_, _ = protocol.ReadRequest(st, protocol.MaxMessage)
	}
	c := connect(t, g, nil)
	if err := c.Ping(t.Context()); err == nil {
		t.Error("Ping() of a guest that closes every stream has no error; want one")
	}
	if _, streams := g.count(); streams > 10 {
		t.Errorf("the client tried %d times; want a few", streams)
	}
}

// A guest that wants to go on with stdin where nothing was ever sent breaks the protocol: Wait says so, though the process does not end.
func TestHostileInputOffset(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	running, release := make(chan struct{}), make(chan struct{})
	s := serveStdio(g, func(*fakeStdio) *pb.Exited {
		close(running)
		<-release
		return &pb.Exited{}
	})
	t.Cleanup(func() { close(release) })
	s.wantInput = 1 << 30
	c := connect(t, g, nil)
	cfg := sleeper("web")
	in, feed := io.Pipe()
	defer feed.Close()
	cfg.Stdin = in
	p := newProcess(t, c, cfg)
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-running
	s.hangUp(Stdin)
	if st, err := p.Wait(t.Context()); !errors.Is(err, protocol.ErrProtocol) || !strings.Contains(err.Error(), "stdin") {
		t.Errorf("Wait() = %v, %v; want protocol.ErrProtocol about stdin", st, err)
	}
}
