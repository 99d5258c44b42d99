package framefilter

import (
	"io"
	"net"
	"testing"

	"github.com/hashicorp/yamux"
)

// endless gives the same frames for ever and takes everything.
type endless struct {
	net.Conn
	frames []byte
	at     int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.frames[e.at:])
	e.at = (e.at + n) % len(e.frames)
	return n, nil
}

func (e *endless) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkRead is the cost of checking a frame of 40 bytes.
func BenchmarkRead(b *testing.B) {
	frame := data(1, 0, 40).encode()
	c := New(&endless{frames: frame}, Guest, Limits{})
	c.state.receive(window(1, flagSYN, 0))
	buf := make([]byte, len(frame))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		c.state.streams[1].granted = initialWindow
	}
}

// BenchmarkWrite is the cost of merging a frame of 40 bytes.
func BenchmarkWrite(b *testing.B) {
	frame := data(1, 0, 40).encode()
	c := New(&endless{}, Host, Limits{})
	c.state.send(window(1, flagSYN, 0))
	b.ReportAllocs()
	for b.Loop() {
		c.Write(frame[:headerSize])
		if _, err := c.Write(frame[headerSize:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCall is a request of 40 bytes and its answer on a kept stream, against the same without filters and without yamux.
func BenchmarkCall(b *testing.B) {
	for name, wrap := range map[string]func(net.Conn, Role) net.Conn{
		"filtered": func(c net.Conn, r Role) net.Conn { return New(c, r, Limits{}) },
		"bare":     func(c net.Conn, _ Role) net.Conn { return c },
	} {
		b.Run(name, func(b *testing.B) {
			below, peer := pipe(b)
			host, err := yamux.Client(wrap(below, Host), config())
			if err != nil {
				b.Fatal(err)
			}
			defer host.Close()
			guest, err := yamux.Server(wrap(peer, Guest), config())
			if err != nil {
				b.Fatal(err)
			}
			defer guest.Close()
			stream, err := host.Open()
			if err != nil {
				b.Fatal(err)
			}
			answerer, err := guest.Accept()
			if err != nil {
				b.Fatal(err)
			}
			benchmarkCalls(b, stream, answerer)
		})
	}
	b.Run("raw", func(b *testing.B) {
		host, guest := pipe(b)
		benchmarkCalls(b, host, guest)
	})
}

func benchmarkCalls(b *testing.B, caller, answerer net.Conn) {
	go echo(answerer) // ends when the connection is closed
	request := make([]byte, 40)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := caller.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(caller, request); err != nil {
			b.Fatal(err)
		}
	}
}
