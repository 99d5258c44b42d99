package vsockdev

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func connectLine(port uint32) string { return fmt.Sprintf("CONNECT %d\n", port) }

func TestParseConnect(t *testing.T) {
	tests := []struct {
		line string
		port uint32
		ok   bool
	}{
		{"CONNECT 1024\n", 1024, true},
		{"CONNECT 4294967295\n", 1<<32 - 1, true},
		{"CONNECT 4294967296\n", 0, false},
		{"CONNECT \n", 0, false},
		{"CONNECT -1\n", 0, false},
		{"CONNECT +1\n", 0, false},
		{"CONNECT 1 2\n", 0, false},
		{"CONNECT 1\r\n", 0, false},
		{"connect 1\n", 0, false},
		{"OK 1\n", 0, false},
		{"\n", 0, false},
	}
	for _, tt := range tests {
		if port, err := parseConnect(tt.line); port != tt.port || (err == nil) != tt.ok {
			t.Errorf("parseConnect(%q) = %d, %v; want %d, success: %t", tt.line, port, err, tt.port, tt.ok)
		}
	}
}

// serveHybrid serves a guest at a path until the test ends.
func serveHybrid(t *testing.T, g *fakeGuest) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "v")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.dev.ServeHybrid(ctx, path) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ServeHybrid = %v; want nil", err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("Lstat of the socket afterwards = %v; want that it does not exist", err)
		}
	})
	waitUntil(t, "the socket", func() bool {
		g.dev.mu.Lock()
		defer g.dev.mu.Unlock()
		return g.dev.fallback != nil
	})
	return path
}

func dialUnix(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(fakeTimeout))
	return c.(*net.UnixConn)
}

func TestHybridToGuest(t *testing.T) {
	g := newFakeGuest(t, nil)
	path := serveHybrid(t, g)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("Stat = %v, %v; want mode 0600", fi.Mode(), err)
	}
	s := dialUnix(t, path)
	io.WriteString(s, connectLine(1024)+"right behind it")
	h, _ := g.receive(opRequest)
	if h.dstPort != 1024 {
		t.Errorf("guest is asked for port %d; want 1024", h.dstPort)
	}
	g.send(packet(opResponse, h.srcPort, h.dstPort), nil)
	if _, data := g.receive(opReadWrite); string(data) != "right behind it" {
		t.Errorf("guest received %q; want what was behind the line", data)
	}
	want := fmt.Sprintf("OK %d\n", h.srcPort)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); string(got) != want || err != nil {
		t.Errorf("answer = %q, %v; want %q", got, err, want)
	}
	s.CloseWrite()
	if h, _ := g.receive(opShutdown); h.flags != shutdownSend {
		t.Errorf("half-close arrived with flags %d; want %d", h.flags, shutdownSend)
	}
	g.send(packet(opReadWrite, h.srcPort, h.dstPort), []byte("answer"))
	end := packet(opShutdown, h.srcPort, h.dstPort)
	end.flags = shutdownSend
	g.send(end, nil)
	if got, err := io.ReadAll(s); string(got) != "answer" || err != nil {
		t.Errorf("ReadAll = %q, %v; want answer, nil", got, err)
	}
}

// TestHybridHangup: a client that closes is not mistaken for one that half-closes, also when nobody writes.
func TestHybridHangup(t *testing.T) {
	g := newFakeGuest(t, nil)
	path := serveHybrid(t, g)
	s := dialUnix(t, path)
	io.WriteString(s, connectLine(1))
	h, _ := g.receive(opRequest)
	g.send(packet(opResponse, h.srcPort, h.dstPort), nil)
	if _, err := io.ReadFull(s, make([]byte, len("OK 1073741824\n"))); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for flags := uint32(0); flags != shutdownBoth; {
		end, _ := g.receive(opShutdown)
		flags = end.flags
	}
}

func TestHybridRefused(t *testing.T) {
	g := newFakeGuest(t, nil)
	path := serveHybrid(t, g)
	for _, line := range []string{connectLine(1), "GET / HTTP/1.1\r\n", "CONNECT 99999999999999999999", "CONNECT 0x10\n"} {
		s := dialUnix(t, path)
		io.WriteString(s, line)
		if line == connectLine(1) {
			h, _ := g.receive(opRequest)
			g.send(packet(opReset, h.srcPort, h.dstPort), nil)
		}
		// A reset instead of an end of file comes when the service has not read everything that was sent.
		if got, err := io.ReadAll(s); len(got) != 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("after %q: %q, %v; want an end of file", line, got, err)
		}
	}
}

func TestHybridFromGuest(t *testing.T) {
	g := newFakeGuest(t, nil)
	path := serveHybrid(t, g)
	g.send(packet(opRequest, 5000, 1), nil)
	g.receive(opReset) // nobody listens
	l, err := net.Listen("unix", path+"_5000")
	g.must(err)
	defer l.Close()
	g.send(packet(opRequest, 5000, 2), nil)
	g.receive(opResponse)
	s, err := l.Accept()
	g.must(err)
	defer s.Close()
	g.send(packet(opReadWrite, 5000, 2), []byte("hello"))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(s, buf); string(buf) != "hello" || err != nil {
		t.Errorf("read %q, %v; want hello, nil", buf, err)
	}
	io.WriteString(s, "host")
	if _, data := g.receive(opReadWrite); string(data) != "host" {
		t.Errorf("guest received %q; want host", data)
	}
	end := packet(opShutdown, 5000, 2)
	end.flags = shutdownBoth
	g.send(end, nil)
	if n, err := s.Read(buf); err != io.EOF {
		t.Errorf("Read after the guest has closed = %d, %v; want EOF", n, err)
	}
}

// TestHybridEnds: the service ends with clients in every state, and says so when the device ends first.
func TestHybridEnds(t *testing.T) {
	g := newFakeGuest(t, nil)
	path := filepath.Join(t.TempDir(), "v")
	done := make(chan error, 1)
	go func() { done <- g.dev.ServeHybrid(t.Context(), path) }()
	waitUntil(t, "the socket", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
	silent, waiting := dialUnix(t, path), dialUnix(t, path)
	io.WriteString(waiting, connectLine(1))
	g.receive(opRequest)
	if err := g.dev.ServeHybrid(t.Context(), path+"2"); err == nil {
		t.Error("second ServeHybrid = nil; want an error")
	}
	if err := g.dev.ServeHybrid(t.Context(), path); err == nil {
		t.Error("ServeHybrid at a path in use = nil; want an error")
	}
	g.dev.Close()
	if err := <-done; err == nil {
		t.Error("ServeHybrid = nil; want an error: the device has ended")
	}
	for _, s := range []net.Conn{silent, waiting} {
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("a client was not dropped")
		}
	}
}
