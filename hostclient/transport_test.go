package hostclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The forms of a transport that other packages provide.
var (
	_ Transport = TransportFuncs{}
	_ Transport = (*UnixPorts)(nil)
	_ Transport = HybridSocket("")
	_ Transport = Vsock(3)
)

func TestHybridReply(t *testing.T) {
	tests := []struct {
		in   string
		want error // nil: accepted; errAny: any
		rest string
	}{
		{"OK 1073741824\n", nil, ""},
		{"OK 5\nhello", nil, "hello"},
		{"OK 4294967295\n", nil, ""},
		{"OK 4294967296\n", errAny, ""},
		{"OK \n", errAny, ""},
		{"OK -1\n", errAny, ""},
		{"OK 5\r\n", errAny, ""},
		{"KO 5\n", errAny, ""},
		{"\n", errAny, ""},
		{"", syscall.ECONNREFUSED, ""},
		{"OK 5", syscall.ECONNREFUSED, ""},
		{strings.Repeat("x", maxHybridReply) + "tail", errAny, "tail"},
	}
	for _, tt := range tests {
		r := strings.NewReader(tt.in)
		err := readHybridReply(r)
		if (err == nil) != (tt.want == nil) || tt.want != errAny && !errors.Is(err, tt.want) {
			t.Errorf("readHybridReply(%q) = %v; want %v", tt.in, err, tt.want)
		}
		if rest, _ := io.ReadAll(r); tt.rest != "" && string(rest) != tt.rest {
			t.Errorf("readHybridReply(%q) left %q; want %q", tt.in, rest, tt.rest)
		}
	}
}

var errAny = errors.New("any error")

func FuzzHybridReply(f *testing.F) {
	for _, seed := range []string{"OK 1\n", "OK 4294967295\nrest", "", "OK ", "KO\n", strings.Repeat("9", 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r := strings.NewReader(in)
		err := readHybridReply(r)
		if read := len(in) - r.Len(); read > maxHybridReply {
			t.Errorf("readHybridReply(%q) read %d bytes; want at most %d", in, read, maxHybridReply)
		}
		line, _, ok := strings.Cut(in, "\n")
		var port uint64
		if n, _ := fmt.Sscanf(line, "OK %d", &port); err == nil && (!ok || n != 1 || port > 1<<32-1) {
			t.Errorf("readHybridReply(%q) = nil; want an error", in)
		}
	})
}

// fakeMonitor is a fake of a monitor's hybrid socket: it answers CONNECT with answer, and echoes.
func fakeMonitor(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vsock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if answer == "silence" {
				_, _ = io.Copy(io.Discard, conn)
			}
			fmt.Fprintf(conn, answer, line)
			conn.Close()
		}
	}()
	return path
}

func TestHybridDial(t *testing.T) {
	tests := []struct {
		answer string
		want   func(error) bool
	}{
		{"OK 1\n%q", nil},
		{"%.0s", is(syscall.ECONNREFUSED)},
		{"NO %.0s\n", says("NO")},
		{"silence", is(context.DeadlineExceeded)},
	}
	for _, tt := range tests {
		transport := HybridSocket(fakeMonitor(t, tt.answer))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if tt.want == nil {
			ctx = t.Context()
		}
		conn, err := transport.Dial(ctx, 1024)
		cancel()
		if tt.want != nil {
			if err == nil || !tt.want(err) {
				t.Errorf("Dial of a monitor that answers %q = %v; want another error", tt.answer, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("Dial(1024) = %v; want no error", err)
			continue
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != `"CONNECT 1024\n"` {
			t.Errorf("behind the answer came %q, %v; want the monitor's echo of CONNECT 1024", b, err)
		}
		conn.Close()
	}
	if _, err := HybridSocket("/nonexistent").Dial(t.Context(), 1024); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Dial without a socket = %v; want ENOENT", err)
	}
}

func TestHybridListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vsock")
	transport := HybridSocket(path)
	l, err := transport.Listen(5000)
	if err != nil {
		t.Fatalf("Listen(5000) = %v; want no error", err)
	}
	if _, err := transport.Listen(5000); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second Listen(5000) = %v; want EADDRINUSE", err)
	}
	if _, err := net.Dial("unix", path+"_5000"); err != nil {
		t.Errorf("the guest's dial: %v; want no error", err)
	}
	l.Close()
	l, err = transport.Listen(5000)
	if err != nil {
		t.Fatalf("Listen(5000) after Close = %v; want no error: the socket is removed", err)
	}
	l.Close()
}

func TestUnixPorts(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	hostPath, guestPath := filepath.Join(dir, "host"), filepath.Join(dir, "guest")
	guest, err := net.Listen("unix", guestPath)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	transport, err := NewUnixPorts(map[uint32]string{1024: guestPath}, map[uint32]string{5000: hostPath})
	if err != nil {
		t.Fatal(err)
	}
	defer transport.Close()

	conn, err := transport.Dial(t.Context(), 1024)
	if err != nil {
		t.Fatalf("Dial(1024) = %v; want no error", err)
	}
	conn.Close()
	if _, err := transport.Dial(t.Context(), 1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Dial of a port without a socket = %v; want errors.ErrUnsupported", err)
	}
	if _, err := transport.Listen(1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Listen at a port without a socket = %v; want errors.ErrUnsupported", err)
	}

	dialAndExpect := func(want string) {
		t.Helper()
		conn, err := net.Dial("unix", hostPath)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if b, _ := io.ReadAll(conn); string(b) != want {
			t.Errorf("the guest's dial got %q; want %q", b, want)
		}
	}
	dialAndExpect("") // nobody has leased the port
	for range 3 {     // one client after the other
		l, err := transport.Listen(5000)
		if err != nil {
			t.Fatalf("Listen(5000) = %v; want no error", err)
		}
		if _, err := transport.Listen(5000); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen at a leased port = %v; want EADDRINUSE", err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if conn, err := l.Accept(); err == nil {
				io.WriteString(conn, "client")
				conn.Close()
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept of a closed lease = %v; want net.ErrClosed", err)
			}
		}()
		dialAndExpect("client")
		l.Close()
		<-served
	}
	l, err := transport.Listen(5000)
	if err != nil {
		t.Fatal(err)
	}
	transport.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after the transport's Close = %v; want net.ErrClosed", err)
	}
	if _, err := transport.Listen(5000); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Close = %v; want net.ErrClosed", err)
	}
}
