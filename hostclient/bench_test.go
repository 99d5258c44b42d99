package hostclient

import (
	"context"
	"io"
	"net"
	"testing"
)

// BenchmarkCall measures a no-op call to the fake guest; BenchmarkPingPong the same bytes over the same kind of connection with nothing in between.
// Their difference is what both ends of the protocol cost, without any machine.
func BenchmarkCall(b *testing.B) {
	g := newFakeGuest(b)
	g.stream = true
	c := connect(b, g, nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Ping(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCalls64(b *testing.B) {
	g := newFakeGuest(b)
	g.stream = true
	c := connect(b, g, nil)
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.Ping(context.Background()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkPingPong(b *testing.B) {
	host, guest := socketPair(b)
	go func() { _, _ = io.Copy(guest, guest) }()
	var buf [64]byte
	for b.Loop() {
		if _, err := host.Write(buf[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(host, buf[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// socketPair connects two unix sockets, which buffer as a real transport does.
func socketPair(t testing.TB) (host, guest net.Conn) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if host, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if guest, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close(); guest.Close() })
	return host, guest
}
