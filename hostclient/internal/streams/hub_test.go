package streams

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// guestDialer plays the guest, good or bad, by hand.
type guestDialer struct {
	t   testing.TB
	hub *Hub
	at  string
}

func newGuestDialer(t testing.TB, check func(net.Conn) error) *guestDialer {
	t.Helper()
	at := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	g := &guestDialer{t: t, hub: NewHub(l, 9, check, nil), at: at}
	t.Cleanup(func() { g.hub.Close() })
	return g
}

func (g *guestDialer) dial() net.Conn {
	g.t.Helper()
	c, err := net.Dial("unix", g.at)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// connect says p and gives the error of the accept record.
func (g *guestDialer) connect(p protocol.Preamble) (net.Conn, error) {
	c := g.dial()
	if err := protocol.WritePreamble(c, p); err != nil {
		return c, err
	}
	return c, protocol.ReadAccept(c, p)
}

func (g *guestDialer) newSet(cfg Config) *Set {
	g.t.Helper()
	s, err := New(g.hub, cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { s.Close() })
	return s
}

// preamble is the right one for a stream of s.
func preamble(s *Set, name pb.Stream) protocol.Preamble {
	for _, o := range s.Stdio() {
		if o.Stream == name {
			return protocol.Preamble{Stream: name, Mode: o.Mode, Generation: 1, Token: protocol.Token(o.Token)}
		}
	}
	return protocol.Preamble{Stream: name, Generation: 1}
}

func TestHubRefuses(t *testing.T) {
	g := newGuestDialer(t, nil)
	s := g.newSet(Config{Stdin: strings.NewReader(""), Stdout: io.Discard})
	good := preamble(s, pb.Stream_STREAM_STDOUT)
	for name, change := range map[string]func(*protocol.Preamble){
		"token":       func(p *protocol.Preamble) { p.Token[31] ^= 1 },
		"zero token":  func(p *protocol.Preamble) { p.Token = protocol.Token{} },
		"stream":      func(p *protocol.Preamble) { p.Stream = pb.Stream_STREAM_STDIN },
		"mode":        func(p *protocol.Preamble) { p.Mode = pb.StdioMode_STDIO_MODE_DIRECT },
		"generation":  func(p *protocol.Preamble) { p.Generation = 2 },
		"offset":      func(p *protocol.Preamble) { p.Offset = 1 },
		"huge offset": func(p *protocol.Preamble) { p.Offset = 1<<64 - 1 },
	} {
		p := good
		change(&p)
		if _, err := g.connect(p); err == nil {
			t.Errorf("a wrong %s is accepted", name)
		}
	}
	in := preamble(s, pb.Stream_STREAM_STDIN)
	in.Offset = 1
	if _, err := g.connect(in); err == nil {
		t.Error("an offset of stdin that is not there is accepted")
	}
	if _, err := g.connect(good); err != nil {
		t.Errorf("the right preamble after the wrong ones: %v", err)
	}
	s.Created()
	if _, err := g.connect(good); err == nil {
		t.Error("a spent token is accepted")
	}
}

func TestHubChecksPeer(t *testing.T) {
	g := newGuestDialer(t, func(net.Conn) error { return errors.New("not our guest") })
	s := g.newSet(Config{Stdout: io.Discard})
	if _, err := g.connect(preamble(s, pb.Stream_STREAM_STDOUT)); err == nil {
		t.Error("a refused peer is accepted")
	}
}

// TestSilentPeersDelayNobody: more of them than the bound, and the right one still gets in at once.
func TestSilentPeersDelayNobody(t *testing.T) {
	g := newGuestDialer(t, nil)
	s := g.newSet(Config{Stdout: io.Discard})
	for range 3 * maxUndecided {
		g.dial()
	}
	begin := time.Now()
	c, err := g.connect(preamble(s, pb.Stream_STREAM_STDOUT))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if d := time.Since(begin); d > protocol.ConnectTimeout/2 {
		t.Errorf("the right peer waited %v", d)
	}
	g.hub.mu.Lock()
	n := len(g.hub.undecided)
	g.hub.mu.Unlock()
	if n > maxUndecided {
		t.Errorf("%d undecided connections; want at most %d", n, maxUndecided)
	}
}

func TestConnectedNamesMissing(t *testing.T) {
	g := newGuestDialer(t, nil)
	s := g.newSet(Config{Stdout: io.Discard, Stderr: io.Discard, ConnectTimeout: 30 * time.Millisecond})
	if _, err := g.connect(preamble(s, pb.Stream_STREAM_STDOUT)); err != nil {
		t.Fatal(err)
	}
	s.Dialing()
	err := s.Connected(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stderr") || strings.Contains(err.Error(), "stdout") {
		t.Errorf("Connected() = %v; want a deadline that names stderr only", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.newSet(Config{Stdout: io.Discard}).Connected(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Connected(cancelled) = %v", err)
	}
}

// TestHostileGuest sends chunks that lie. The connection ends and is reported as lost; nothing of it reaches the Writer but honest bytes.
func TestHostileGuest(t *testing.T) {
	for name, bad := range map[string][]byte{
		"huge chunk":     {0xff, 0xff, 0xff, 0xff},
		"chunk above":    {0, 0x10, 0, 1},
		"wrong total":    protocol.AppendEnd(nil, 9),
		"behind the end": append(protocol.AppendEnd(nil, 2), 0),
		"half a chunk":   {0, 0, 0, 9, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuestDialer(t, nil)
			var out bytes.Buffer
			s := g.newSet(Config{Stdout: &out})
			c, err := g.connect(preamble(s, pb.Stream_STREAM_STDOUT))
			if err != nil {
				t.Fatal(err)
			}
			s.Created()
			_, _ = c.Write(append([]byte{0, 0, 0, 2, 'h', 'i'}, bad...))
			if name == "half a chunk" {
				c.Close()
			} else if _, err := io.Copy(io.Discard, c); err != nil && name != "behind the end" {
				t.Logf("the guest's end: %v", err)
			}
			if name == "behind the end" {
				return // the stream is over, there is nothing to lose
			}
			select {
			case l := <-s.Lost():
				if l != (LostStream{pb.Stream_STREAM_STDOUT, 1}) {
					t.Errorf("Lost() = %v", l)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the loss is not reported")
			}
			s.Close()
			if got := out.String(); got != "hi" && (name != "half a chunk" || got != "hix") {
				t.Errorf("the Writer got %q", got)
			}
		})
	}
}

// TestHostileAcks sends stdin's records that no guest may send.
func TestHostileAcks(t *testing.T) {
	for name, bad := range map[string][]byte{
		"ack above":    protocol.Record{Type: protocol.RecordAck, Offset: 100}.Append(nil),
		"early end":    protocol.Record{Type: protocol.RecordEndAcked}.Append(nil),
		"not a record": bytes.Repeat([]byte{9}, protocol.RecordSize),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuestDialer(t, nil)
			r, w := io.Pipe()
			defer w.Close()
			s := g.newSet(Config{Stdin: r})
			c, err := g.connect(preamble(s, pb.Stream_STREAM_STDIN))
			if err != nil {
				t.Fatal(err)
			}
			s.Created()
			_, _ = c.Write(bad)
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Logf("the guest's end: %v", err)
			}
			select {
			case <-s.Lost():
			case <-time.After(10 * time.Second):
				t.Fatal("the loss is not reported")
			}
		})
	}
}

// TestCloseLeavesCallersAlone: a Read and a Write of the caller that never return hold nobody up, and end when they do.
func TestCloseLeavesCallersAlone(t *testing.T) {
	before := runtime.NumGoroutine()
	g := newGuestDialer(t, nil)
	stuck := make(chan struct{})
	s := g.newSet(Config{Stdin: stuckReader{stuck}, Stdout: stuckWriter{stuck}})
	c, err := g.connect(preamble(s, pb.Stream_STREAM_STDOUT))
	if err != nil {
		t.Fatal(err)
	}
	d, err := g.connect(preamble(s, pb.Stream_STREAM_STDIN))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte{0, 0, 0, 1, 'x'})
	s.CloseStdin()
	b := make([]byte, protocol.EndSize)
	if _, err := io.ReadFull(d, b); err != nil || !bytes.Equal(b, protocol.AppendEnd(nil, 0)) {
		t.Errorf("CloseStdin with a Read going on sent %x, %v; want the end", b, err)
	}
	closed := make(chan struct{})
	go func() {
		s.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close waits for the caller")
	}
	close(stuck)
	c.Close()
	d.Close()
	g.hub.Close()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines; %d before", runtime.NumGoroutine(), before)
		}
	}
}

type stuckReader struct{ c chan struct{} }

func (r stuckReader) Read([]byte) (int, error) {
	<-r.c
	return 0, io.EOF
}

type stuckWriter struct{ c chan struct{} }

func (w stuckWriter) Write(b []byte) (int, error) {
	<-w.c
	return len(b), nil
}

var errBroken = errors.New("broken")

// TestReaderFails: the process gets the end, Finish the error.
func TestReaderFails(t *testing.T) {
	g := newGuestDialer(t, nil)
	s := g.newSet(Config{Stdin: io.MultiReader(strings.NewReader("ab"), brokenReader{})})
	c, err := g.connect(preamble(s, pb.Stream_STREAM_STDIN))
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte{0, 0, 0, 2, 'a', 'b'}, protocol.AppendEnd(nil, 2)...)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("sent %x, %v; want %x", got, err, want)
	}
	if err := s.Finish(t.Context(), nil); !errors.Is(err, errBroken) {
		t.Errorf("Finish() = %v; want %v", err, errBroken)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestLossQueueKeepsNewest(t *testing.T) {
	var q lossQueue
	q.init()
	for gen := range uint32(10) {
		q.put(LostStream{pb.Stream_STREAM_STDOUT, gen})
		q.put(LostStream{pb.Stream_STREAM_STDIN, gen})
	}
	q.close()
	q.put(LostStream{})
	var got []LostStream
	for l := range q.ch {
		got = append(got, l)
	}
	if len(got) != 2 || got[0].Generation != 9 || got[1].Generation != 9 {
		t.Errorf("the queue holds %v; want the newest of two streams", got)
	}
}
