package streams_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/relay"
	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// pair is a host's and a guest's end of one process's stdio, over unix sockets. The test plays the process, by the guest's files.
type pair struct {
	t     testing.TB
	hub   *streams.Hub
	host  *streams.Set
	cfg   *relay.Config
	guest *relay.Set
	files [3]*os.File // the process's
	owner []byte
	told  chan streams.LostStream // what the guest noticed
}

// wrapConn lets a test put faults between the ends; nil leaves a connection as it is.
type wrapConn func(net.Conn) net.Conn

func newHub(t testing.TB) (*streams.Hub, relay.Dial) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hub := streams.NewHub(l, 7, nil, nil)
	t.Cleanup(func() { hub.Close() })
	dial := func(ctx context.Context, port uint32) (net.Conn, error) {
		if port != 7 {
			return nil, fmt.Errorf("dial of port %d", port)
		}
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return hub, dial
}

func newPair(t testing.TB, cfg streams.Config, wrap wrapConn) *pair {
	t.Helper()
	hub, dial := newHub(t)
	if wrap != nil {
		plain := dial
		dial = func(ctx context.Context, port uint32) (net.Conn, error) {
			c, err := plain(ctx, port)
			if err != nil {
				return nil, err
			}
			return wrap(c), nil
		}
	}
	p := &pair{t: t, hub: hub, owner: []byte("owner"), cfg: &relay.Config{Dial: dial, Budget: relay.NewBudget(64 << 20)}}
	p.connect(cfg)
	return p
}

// connect makes both ends and starts the relays.
func (p *pair) connect(cfg streams.Config) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var err error
	if p.host, err = streams.New(p.hub, cfg); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.host.Close() })
	p.host.Dialing()
	p.guest, err = relay.Connect(ctx, p.cfg, relay.Options{Stdio: p.host.Stdio(), Owner: p.owner, ConnectTimeout: 20 * time.Second})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.guest.Close() })
	if err := p.host.Connected(ctx); err != nil {
		p.t.Fatal(err)
	}
	p.host.Created()
	files, err := p.guest.ChildFiles()
	if err != nil {
		p.t.Fatal(err)
	}
	for i, f := range files {
		p.files[i] = dup(p.t, f)
	}
	p.guest.Start()
}

func dup(t testing.TB, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Non-blocking, for the runtime's poller: a process of its own would not hold up this one's threads either.
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// finish waits for both ends as a client does after the exit.
func (p *pair) finish() ([]*pb.Output, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	p.guest.ProcessExited()
	outs, err := p.guest.WaitDrained(ctx, 3*time.Second)
	if err != nil {
		return nil, fmt.Errorf("WaitDrained: %w", err)
	}
	return outs, p.host.Finish(ctx, outs)
}

// sum keeps what it gets.
type sum struct {
	mu sync.Mutex
	n  int64
	b  bytes.Buffer
}

func (s *sum) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += int64(len(b))
	return s.b.Write(b)
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestOutputArrives(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 65536, 3<<20 + 17} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			var out, errs sum
			p := newPair(t, streams.Config{Stdout: &out, Stderr: &errs}, nil)
			want := noise(n)
			go func() {
				_, _ = p.files[1].Write(want)
				p.files[1].Close()
			}()
			_, _ = io.WriteString(p.files[2], "oops")
			p.files[2].Close()
			p.files[0].Close()
			outs, err := p.finish()
			if err != nil {
				t.Fatal(err)
			}
			if len(outs) != 2 || outs[0].Length != uint64(n) || !outs[0].Drained || outs[1].Length != 4 {
				t.Errorf("WaitDrained() = %v; want lengths %d and 4", outs, n)
			}
			if sha256.Sum256(out.b.Bytes()) != sha256.Sum256(want) {
				t.Errorf("stdout has %d bytes that differ from the %d written", out.n, n)
			}
			if errs.b.String() != "oops" {
				t.Errorf("stderr = %q; want %q", errs.b.String(), "oops")
			}
		})
	}
}

func TestInputArrives(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 65536, 3<<20 + 17} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			want := noise(n)
			p := newPair(t, streams.Config{Stdin: bytes.NewReader(want)}, nil)
			got, err := io.ReadAll(p.files[0])
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("stdin has %d bytes that differ from the %d given", len(got), n)
			}
			if _, err := p.finish(); err != nil {
				t.Errorf("finish: %v", err)
			}
		})
	}
}

func TestEcho(t *testing.T) {
	r, w := io.Pipe()
	var out sum
	p := newPair(t, streams.Config{Stdin: r, Stdout: &out}, nil)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(p.files[1], p.files[0])
		p.files[1].Close()
		done <- err
	}()
	for i := range 100 {
		fmt.Fprintf(w, "%d\n", i)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := p.finish(); err != nil {
		t.Fatal(err)
	}
	if out.n != 290 || !bytes.HasSuffix(out.b.Bytes(), []byte("98\n99\n")) {
		t.Errorf("echo gave %d bytes, %q", out.n, out.b.Bytes())
	}
}

var errSink = errors.New("sink is full")

type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	w.left -= n
	if n < len(b) {
		return n, errSink
	}
	return n, nil
}

func TestFailingWriterGivesEPIPE(t *testing.T) {
	p := newPair(t, streams.Config{Stdout: &failingWriter{left: 100000}}, nil)
	b := noise(64 << 10)
	var err error
	for err == nil {
		_, err = p.files[1].Write(b)
	}
	if !errors.Is(err, unix.EPIPE) {
		t.Errorf("Write() = %v; want EPIPE", err)
	}
	outs, err := p.finish()
	if !errors.Is(err, errSink) {
		t.Errorf("Finish() = %v; want %v", err, errSink)
	}
	if len(outs) != 1 || !outs[0].Stopped || !outs[0].Drained || outs[0].Length != 100000 {
		t.Errorf("WaitDrained() = %v; want stopped at 100000", outs)
	}
}

// onlyConn hides everything of a connection but net.Conn.
type onlyConn struct{ net.Conn }

// TestPlainConnections uses connections without a descriptor, in both directions at once.
func TestPlainConnections(t *testing.T) {
	want := noise(3<<20 + 11)
	var out sum
	p := newPair(t, streams.Config{Stdin: bytes.NewReader(want), Stdout: &out}, func(c net.Conn) net.Conn { return onlyConn{c} })
	if _, err := io.Copy(struct{ io.Writer }{p.files[1]}, struct{ io.Reader }{p.files[0]}); err != nil {
		t.Fatal(err)
	}
	p.files[1].Close()
	if _, err := p.finish(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.b.Bytes(), want) {
		t.Errorf("%d bytes came back that differ from the %d given", out.n, len(want))
	}
}

// TestNewClientTakesOver has the first client detach, and another one go on where it was.
func TestNewClientTakesOver(t *testing.T) {
	var first, second sum
	p := newPair(t, streams.Config{Stdout: &first}, nil)
	_, _ = io.WriteString(p.files[1], "one ")
	eventually(t, "the first client has its bytes", func() bool { return first.len() == 4 })
	p.host.Detach()
	p.host.Close()
	_, _ = io.WriteString(p.files[1], "two ")

	next, err := streams.New(p.hub, streams.Config{Stdout: &second, Attach: true})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	reqs, err := next.AttachRequest(true, p.guest.Info())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err := p.guest.Attach(ctx, &pb.Attach{Streams: reqs}, []byte("another"), next.Dialing)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.Connected(ctx), next.Attached(res)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(p.files[1], "three")
	p.files[1].Close()
	p.host = next
	if _, err := p.finish(); err != nil {
		t.Fatal(err)
	}
	// What the first one's Writer had and its Detach came too early to acknowledge comes again.
	if got := second.b.String(); got != "two three" && got != "one two three" {
		t.Errorf("the second client got %q; want %q", got, "two three")
	}
}

// TestSlowReaderStallsItselfOnly: one output whose Writer blocks, while the other one moves.
func TestSlowReaderStallsItselfOnly(t *testing.T) {
	stuck := make(chan struct{})
	var out sum
	p := newPair(t, streams.Config{Stdout: &out, Stderr: writerFunc(func(b []byte) (int, error) { <-stuck; return len(b), nil })}, nil)
	go func() {
		_, _ = p.files[2].Write(make([]byte, 8<<20))
		p.files[2].Close()
	}()
	want := noise(16 << 20)
	_, _ = p.files[1].Write(want)
	p.files[1].Close()
	eventually(t, "stdout arrives", func() bool { return out.len() == len(want) })
	close(stuck)
	if outs, err := p.finish(); err != nil || outs[1].Length != 8<<20 {
		t.Errorf("finish() = %v, %v; want all of stderr", outs, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func (s *sum) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

func (s *sum) len() int { return len(s.bytes()) }

// eventually polls a real condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("does not come true: %s", what)
		}
	}
}

// TestManyClients runs thirty processes at once through one hub.
func TestManyClients(t *testing.T) {
	hub, dial := newHub(t)
	cfg := &relay.Config{Dial: dial, Budget: relay.NewBudget(8 << 20)}
	want := noise(1 << 20)
	var wg sync.WaitGroup
	for range 30 {
		var out sum
		p := &pair{t: t, hub: hub, cfg: cfg}
		p.connect(streams.Config{Stdin: bytes.NewReader(want), Stdout: &out})
		wg.Go(func() {
			_, _ = io.Copy(struct{ io.Writer }{p.files[1]}, struct{ io.Reader }{p.files[0]})
			p.files[1].Close()
			if _, err := p.finish(); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(out.b.Bytes(), want) {
				t.Errorf("%d bytes came back that differ from the %d given", out.n, len(want))
			}
		})
	}
	wg.Wait()
}
