//go:build linux

package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

// fakeHost is the host's end, reduced to what a test says: it accepts data connections and gives them, with their preambles, to the test.
type fakeHost struct {
	t     testing.TB
	l     net.Listener
	conns chan *hostConn
}

type hostConn struct {
	net.Conn
	protocol.Preamble
}

var testToken = bytes.Repeat([]byte{7}, protocol.TokenSize)

func newFakeHost(t testing.TB) *fakeHost {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{t: t, l: l, conns: make(chan *hostConn, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p, err := protocol.ReadPreamble(c)
			if err != nil {
				c.Close()
				continue
			}
			if err := protocol.WriteAccept(c, p); err != nil {
				c.Close()
				continue
			}
			h.conns <- &hostConn{c, p}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return h
}

func (h *fakeHost) dial(ctx context.Context, _ uint32) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", h.l.Addr().String())
}

func (h *fakeHost) next() *hostConn {
	h.t.Helper()
	select {
	case c := <-h.conns:
		h.t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	case <-time.After(10 * time.Second):
		h.t.Fatal("the guest does not dial")
	}
	return nil
}

// chunk frames data, end ends the stream.
func (c *hostConn) chunk(data string) {
	var head [protocol.ChunkHeaderSize]byte
	protocol.PutChunkHeader(head[:], len(data))
	_, _ = c.Write(append(head[:], data...))
}

func (c *hostConn) end(total uint64) { _, _ = c.Write(protocol.AppendEnd(nil, total)) }

func (c *hostConn) record(t testing.TB) protocol.Record {
	t.Helper()
	var b [protocol.RecordSize]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatalf("no record: %v", err)
	}
	r, err := protocol.ParseRecord(b[:])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lastRecord reads records up to one that is not an ack.
func (c *hostConn) lastRecord(t testing.TB) protocol.Record {
	t.Helper()
	for {
		if r := c.record(t); r.Type != protocol.RecordAck {
			return r
		}
	}
}

func (c *hostConn) send(r protocol.Record) { _, _ = c.Write(r.Append(nil)) }

// data reads n bytes of the stream.
func (c *hostConn) data(t testing.TB, rcv *stdio.Receiver, n int) []byte {
	t.Helper()
	var got []byte
	b := make([]byte, 64<<10)
	for len(got) < n {
		k, err := c.Read(b)
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(got), n, err)
		}
		for p := b[:k]; len(p) > 0; {
			d, m, err := rcv.Parse(p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, d...)
			rcv.Delivered(len(d))
			p = p[m:]
		}
	}
	return got
}

func stdioFor(names ...pb.Stream) []*pb.Stdio {
	var res []*pb.Stdio
	for _, n := range names {
		res = append(res, &pb.Stdio{Stream: n, Port: 1, Token: testToken})
	}
	return res
}

const (
	stdin  = pb.Stream_STREAM_STDIN
	stdout = pb.Stream_STREAM_STDOUT
	stderr = pb.Stream_STREAM_STDERR
)

// newSet connects the streams; files are the process's, as duplicates that the test closes.
func newSet(t testing.TB, h *fakeHost, opt Options) (*Set, [3]*os.File) {
	t.Helper()
	cfg := &Config{Dial: h.dial, Budget: NewBudget(64 << 20)}
	s, err := Connect(context.Background(), cfg, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	files, err := s.ChildFiles()
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		files[i] = dupFile(t, f)
	}
	return s, files
}

// dupFile duplicates a file of the process, which Start closes.
func dupFile(t testing.TB, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := os.NewFile(uintptr(fd), f.Name())
	t.Cleanup(func() { d.Close() })
	return d
}

// eventually polls a real condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("does not come true: %s", what)
		}
	}
}

func TestConnectRefuses(t *testing.T) {
	short := []byte("short")
	for _, tt := range []struct {
		name     string
		stdio    []*pb.Stdio
		terminal bool
	}{
		{"token", []*pb.Stdio{{Stream: stdout, Token: short}}, false},
		{"twice", stdioFor(stdout, stdout), false},
		{"stream", stdioFor(3), false},
		{"negative stream", stdioFor(-1), false},
		{"mode", []*pb.Stdio{{Stream: stdout, Token: testToken, Mode: 9}}, false},
		{"policy", []*pb.Stdio{{Stream: stdout, Token: testToken, Detached: 9}}, false},
		{"small ring", []*pb.Stdio{{Stream: stdout, Token: testToken, RingBytes: 100}}, false},
		{"large ring", []*pb.Stdio{{Stream: stdout, Token: testToken, RingBytes: 2 << 20}}, false},
		{"terminal's stderr", stdioFor(stderr), true},
		{"direct terminal", []*pb.Stdio{{Stream: stdout, Token: testToken, Mode: pb.StdioMode_STDIO_MODE_DIRECT}}, true},
	} {
		_, err := Connect(t.Context(), &Config{Budget: NewBudget(0)}, Options{Stdio: tt.stdio, Terminal: tt.terminal})
		if !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Connect(%s) = %v; want invalid argument", tt.name, err)
		}
	}
}

// TestConnectNamesSilentStream has a host that never answers.
func TestConnectNamesSilentStream(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func(ctx context.Context, _ uint32) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", l.Addr().String())
	}
	_, err = Connect(t.Context(), &Config{Dial: dial, Budget: NewBudget(0)}, Options{Stdio: stdioFor(stderr), ConnectTimeout: 50 * time.Millisecond})
	var se *protocol.StatusError
	if !errors.As(err, &se) || !errors.Is(err, context.DeadlineExceeded) || se.PB.Stream.GetStream() != stderr || !strings.Contains(err.Error(), "stderr") {
		t.Errorf("Connect() = %v; want a deadline exceeded that names stderr", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Connect(ctx, &Config{Dial: dial, Budget: NewBudget(0)}, Options{Stdio: stdioFor(stdout)}); !errors.Is(err, context.Canceled) {
		t.Errorf("Connect(cancelled) = %v; want cancelled", err)
	}
}

func TestUnnamedStreamsAreNull(t *testing.T) {
	s, files := newSet(t, newFakeHost(t), Options{})
	s.Start()
	if n, err := files[0].Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read(stdin) = %d, %v; want the end of file", n, err)
	}
	for _, f := range files[1:] {
		if _, err := f.WriteString("x"); err != nil {
			t.Errorf("Write(%s) = %v", f.Name(), err)
		}
	}
	if outs, err := s.WaitDrained(t.Context(), -1); err != nil || len(outs) != 0 {
		t.Errorf("WaitDrained() = %v, %v; want none", outs, err)
	}
}

// TestHolderGivesUp leaves the write end open, as a grandchild does.
func TestHolderGivesUp(t *testing.T) {
	h := newFakeHost(t)
	s, files := newSet(t, h, Options{Stdio: stdioFor(stdout)})
	c := h.next()
	s.Start()
	_, _ = files[1].WriteString("hello")
	rcv := stdio.NewReceiver(protocol.MaxChunk, 0)
	rcv.Attached()
	c.data(t, rcv, 5)
	s.ProcessExited()

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if outs, err := s.WaitDrained(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitDrained() before the ack = %v, %v; want the context's end", outs, err)
	}
	c.send(protocol.Record{Type: protocol.RecordAck, Offset: 5})
	outs, err := s.WaitDrained(t.Context(), 30*time.Millisecond)
	if err != nil || len(outs) != 1 {
		t.Fatalf("WaitDrained() = %v, %v", outs, err)
	}
	o := outs[0]
	if o.Drained || o.Length != 5 || o.Stopped {
		t.Errorf("WaitDrained() = %v; want given up at 5", o)
	}
	if len(o.Holders) != 1 || o.Holders[0].Pid != uint32(os.Getpid()) || o.Holders[0].Name == "" {
		t.Errorf("holders = %v; want this process, %d", o.Holders, os.Getpid())
	}

	// The relay goes on.
	_, _ = files[1].WriteString(" world")
	files[1].Close()
	if got := c.data(t, rcv, 6); string(got) != " world" {
		t.Errorf("after giving up: %q; want %q", got, " world")
	}
	if rcv.State() != stdio.ReceiverEnded {
		b := make([]byte, protocol.EndSize)
		if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, protocol.AppendEnd(nil, 11)) {
			t.Fatalf("the end is %x, %v", b, err)
		}
	}
	if i := s.Info()[0]; !i.Ended || i.Done || !i.Attached {
		t.Errorf("Info() before the end's ack = %v; want it ended, and not done", i)
	}
	c.send(protocol.Record{Type: protocol.RecordEndAcked, Offset: 11})
	outs, err = s.WaitDrained(t.Context(), -1)
	if err != nil || !outs[0].Drained || outs[0].Length != 11 {
		t.Errorf("WaitDrained() = %v, %v; want drained at 11", outs, err)
	}
	if i := s.Info()[0]; !i.Done || i.Attached {
		t.Errorf("Info() = %v; want it done, and without a connection", i)
	}
}

// TestSlowReaderDoesNotCount: time in which output waits for the host is not the holder's.
func TestSlowReaderDoesNotCount(t *testing.T) {
	h := newFakeHost(t)
	s, files := newSet(t, h, Options{Stdio: stdioFor(stdout)})
	h.next() // reads nothing, acks nothing
	s.Start()
	_, _ = files[1].WriteString("hello")
	s.ProcessExited()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if outs, err := s.WaitDrained(ctx, time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitDrained() = %v, %v; want the context's end", outs, err)
	}
}

func TestCloseStdin(t *testing.T) {
	h := newFakeHost(t)
	s, files := newSet(t, h, Options{Stdio: stdioFor(stdin)})
	c := h.next()
	c.chunk("hello")
	s.Start()
	b := make([]byte, 5)
	if _, err := io.ReadFull(files[0], b); err != nil || string(b) != "hello" {
		t.Fatalf("stdin = %q, %v", b, err)
	}
	if n := s.CloseStdin(); n != 5 {
		t.Errorf("CloseStdin() = %d; want 5", n)
	}
	if n := s.CloseStdin(); n != 5 {
		t.Errorf("CloseStdin() again = %d; want 5", n)
	}
	if n, err := files[0].Read(b); n != 0 || err != io.EOF {
		t.Errorf("Read() = %d, %v; want the end of file", n, err)
	}
	if r := c.lastRecord(t); r.Type != protocol.RecordStop || r.Reason != protocol.StopClosed || r.Offset != 5 {
		t.Errorf("record %+v; want a stop at 5", r)
	}
}

// TestCloseStdinBeforeStart, and with more data than a pipe takes in between.
func TestCloseStdinBeforeStart(t *testing.T) {
	h := newFakeHost(t)
	s, files := newSet(t, h, Options{Stdio: stdioFor(stdin)})
	h.next()
	if n := s.CloseStdin(); n != 0 {
		t.Errorf("CloseStdin() = %d; want 0", n)
	}
	s.Start()
	if n, err := files[0].Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read() = %d, %v; want the end of file", n, err)
	}
}

// TestProcessClosesStdin is head -n1: the relay ends with a stop, and no error.
func TestProcessClosesStdin(t *testing.T) {
	h := newFakeHost(t)
	s, files := newSet(t, h, Options{Stdio: stdioFor(stdin)})
	c := h.next()
	s.Start()
	files[0].Close()
	c.chunk("nobody reads this")
	if r := c.lastRecord(t); r.Type != protocol.RecordStop || r.Reason != protocol.StopClosed || r.Offset != 0 {
		t.Errorf("record %+v; want a stop at 0", r)
	}
	c.Close()
	eventually(t, "the input is over", func() bool { return !s.Info()[0].Attached && s.Info()[0].Done })
}

// TestFullStdinDoesNotHoldUpExit: the process is gone, and its pipe was full.
func TestFullStdinDoesNotHoldUpExit(t *testing.T) {
	h := newFakeHost(t)
	s, _ := newSet(t, h, Options{Stdio: stdioFor(stdin)})
	c := h.next()
	s.Start()
	go func() {
		for range 64 {
			c.chunk(strings.Repeat("x", 64<<10))
		}
	}()
	eventually(t, "the pipe is filling", func() bool { return s.Info()[0].Offset >= largePipe/2 })
	s.ProcessExited()
	if r := c.lastRecord(t); r.Type != protocol.RecordStop {
		t.Errorf("record %+v; want a stop", r)
	}
}

// TestHostileHost sends what no host may send; the connection ends, the process is not disturbed, and an attach goes on where it was.
func TestHostileHost(t *testing.T) {
	for name, bad := range map[string][]byte{
		"ack above":      protocol.Record{Type: protocol.RecordAck, Offset: 6}.Append(nil),
		"end of nothing": protocol.Record{Type: protocol.RecordEndAcked, Offset: 5}.Append(nil),
		"no record":      bytes.Repeat([]byte{0xff}, protocol.RecordSize),
		"half a record":  {1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t)
			lost := make(chan uint32, 1)
			cfg := &Config{Dial: h.dial, Budget: NewBudget(0), OnLost: func(_ pb.Stream, gen uint32) { lost <- gen }}
			s, err := Connect(t.Context(), cfg, Options{Stdio: stdioFor(stdout)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			files, _ := s.ChildFiles()
			fd, _ := unix.Dup(int(files[1].Fd()))
			out := os.NewFile(uintptr(fd), "out")
			defer out.Close()
			s.Start()
			c := h.next()
			_, _ = out.WriteString("hello")
			rcv := stdio.NewReceiver(protocol.MaxChunk, 0)
			rcv.Attached()
			c.data(t, rcv, 5)
			_, _ = c.Write(bad)
			if name == "half a record" {
				c.Close()
			}
			select {
			case gen := <-lost:
				if gen != 1 {
					t.Errorf("OnLost(%d); want 1", gen)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the loss is not noticed")
			}
			from := uint64(2)
			res, err := s.Attach(t.Context(), &pb.Attach{Streams: []*pb.AttachStream{{Stream: stdout, Generation: 1, Token: testToken, Offset: &from}}}, nil, nil)
			if err != nil || res.Streams[0].Generation != 2 || res.Streams[0].Offset != 2 {
				t.Fatalf("Attach() = %v, %v", res, err)
			}
			c = h.next()
			rcv = stdio.NewReceiver(protocol.MaxChunk, 2)
			rcv.Attached()
			if got := c.data(t, rcv, 3); string(got) != "llo" {
				t.Errorf("after the attach: %q; want %q", got, "llo")
			}
		})
	}
}

func TestAttachRules(t *testing.T) {
	h := newFakeHost(t)
	s, files := newSet(t, h, Options{Stdio: stdioFor(stdin, stdout), Owner: []byte("a")})
	h.next()
	h.next()
	s.Start()
	_, _ = files[1].WriteString("hello")
	eventually(t, "the output is read", func() bool { return s.Info()[1].Offset == 5 })
	at := func(v uint64) *uint64 { return &v }
	req := func(name pb.Stream, gen uint32, take bool, offset *uint64) *pb.Attach {
		return &pb.Attach{Streams: []*pb.AttachStream{{Stream: name, Generation: gen, Token: testToken, TakeOver: take, Offset: offset}}, ConnectTimeoutMs: 5000}
	}
	for _, tt := range []struct {
		name  string
		req   *pb.Attach
		owner string
		want  error
	}{
		{"not there", req(stderr, 1, false, nil), "a", errdefs.ErrNotFound},
		{"unknown stream", req(9, 1, false, nil), "a", errdefs.ErrNotFound},
		{"stale generation", req(stdout, 7, false, nil), "a", errdefs.ErrFailedPrecondition},
		{"other client", req(stdout, 1, false, nil), "b", errdefs.ErrFailedPrecondition},
		{"out of range", req(stdout, 1, false, at(6)), "a", errdefs.ErrOutOfRange}, // from here on the generation is 2
		{"named twice", &pb.Attach{Streams: append(req(stdout, 2, false, nil).Streams, req(stdout, 2, false, nil).Streams...)}, "a", errdefs.ErrInvalidArgument},
		{"bad token", &pb.Attach{Streams: []*pb.AttachStream{{Stream: stdout, Generation: 2}}}, "a", errdefs.ErrInvalidArgument},
	} {
		_, err := s.Attach(t.Context(), tt.req, []byte(tt.owner), nil)
		if !errors.Is(err, tt.want) {
			t.Errorf("Attach(%s) = %v; want %v", tt.name, err, tt.want)
		}
		var se *protocol.StatusError
		if errors.As(err, &se) && errors.Is(tt.want, errdefs.ErrOutOfRange) && (se.PB.Generation != 2 || se.PB.Range.GetFirst() != 0 || se.PB.Range.GetNext() != 5) {
			t.Errorf("Attach(%s): %v; want generation 2, range 0 to 5", tt.name, se.PB)
		}
	}
	dialing := false
	res, err := s.Attach(t.Context(), req(stdout, 0, true, nil), []byte("b"), func() { dialing = true })
	if err != nil || !dialing || res.Streams[0].Generation != 3 || string(res.Streams[0].Owner) != "b" {
		t.Errorf("Attach(take over) = %v, %v, dialing %t", res, err, dialing)
	}
	if err := s.Detach(&pb.Detach{Streams: []*pb.DetachStream{{Stream: stdout, Generation: 1}}}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Detach(stale) = %v; want failed precondition", err)
	}
	if err := s.Detach(&pb.Detach{Streams: []*pb.DetachStream{{Stream: stdout, Generation: 3}}}); err != nil || s.Info()[1].Attached {
		t.Errorf("Detach() = %v, attached %t", err, s.Info()[1].Attached)
	}
}

// TestDetachedPolicy fills a small ring that nobody reads: one process blocks, the other loses its oldest bytes.
func TestDetachedPolicy(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprint(drop), func(t *testing.T) {
			o := stdioFor(stdout)
			o[0].RingBytes = 8 << 10
			if drop {
				o[0].Detached = pb.DetachedPolicy_DETACHED_POLICY_DROP_OLDEST
			}
			h := newFakeHost(t)
			s, files := newSet(t, h, Options{Stdio: o})
			h.next()
			s.Start()
			if err := s.Detach(&pb.Detach{Streams: []*pb.DetachStream{{Stream: stdout, Generation: 1}}}); err != nil {
				t.Fatal(err)
			}
			const total = 4 << 20
			var wrote sync.WaitGroup
			wrote.Go(func() { _, _ = files[1].Write(make([]byte, total)) })
			if !drop {
				eventually(t, "the ring is full", func() bool { return s.Info()[0].Offset > 4<<10 })
				if n := s.Info()[0].Offset; n > 8<<10 {
					t.Errorf("%d bytes read from a blocked process; want at most the ring", n)
				}
				s.Close()
				wrote.Wait()
				return
			}
			wrote.Wait()
			eventually(t, "all is read", func() bool { return s.Info()[0].Offset == total })
			from := uint64(0)
			_, err := s.Attach(t.Context(), &pb.Attach{Streams: []*pb.AttachStream{{Stream: stdout, Generation: 1, Token: testToken, Offset: &from}}}, nil, nil)
			var se *protocol.StatusError
			if !errors.As(err, &se) || se.PB.Range.GetNext() != total || se.PB.Range.GetFirst() < total-8<<10 {
				t.Errorf("Attach(0) = %v; want a range of the last 8 KiB", err)
			}
		})
	}
}

// TestThousandWriters: nobody reads, memory stays within the budget, and one more stream still moves.
func TestThousandWriters(t *testing.T) {
	n := 300 // each costs a dozen descriptors here, both ends of everything
	if testing.Short() {
		n = 50
	}
	h := newFakeHost(t)
	const budget = 8 << 20
	cfg := &Config{Dial: h.dial, Budget: NewBudget(budget)}
	var silent []*hostConn // the host reads nothing
	stop, accepted := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			select {
			case c := <-h.conns:
				silent = append(silent, c)
			case <-stop:
				return
			}
		}
	}()
	open := func() (*Set, *os.File) {
		s, err := Connect(t.Context(), cfg, Options{Stdio: stdioFor(stdout)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		files, _ := s.ChildFiles()
		fd, _ := unix.Dup(int(files[1].Fd()))
		f := os.NewFile(uintptr(fd), "out")
		s.Start()
		return s, f
	}
	var writers sync.WaitGroup
	var sets []*Set
	for range n {
		s, f := open()
		sets = append(sets, s)
		writers.Go(func() {
			defer f.Close()
			_, _ = f.Write(make([]byte, 4<<20))
		})
	}
	eventually(t, "the budget is used up", func() bool { return cfg.Budget.Used() > budget/2 })
	eventually(t, "every stream has read something", func() bool {
		for _, s := range sets {
			if s.Info()[0].Offset == 0 {
				return false
			}
		}
		return true
	})
	if used := cfg.Budget.Used(); used > budget+int64(n)*stdio.SmallBlockSize {
		t.Errorf("%d bytes used; the budget is %d", used, budget)
	}
	for _, s := range sets {
		s.Close()
	}
	writers.Wait()
	if used := cfg.Budget.Used(); used != 0 {
		t.Errorf("%d bytes used after Close", used)
	}
	close(stop)
	<-accepted
	for _, c := range silent {
		c.Close()
	}
}

// TestNothingLeaks opens and closes many Sets in every state.
func TestNothingLeaks(t *testing.T) {
	h := newFakeHost(t)
	cfg := &Config{Dial: h.dial, Budget: NewBudget(0)}
	once := func(i int) {
		s, err := Connect(t.Context(), cfg, Options{Stdio: stdioFor(stdin, stdout, stderr)})
		if err != nil {
			t.Fatal(err)
		}
		var conns []*hostConn
		for range 3 {
			conns = append(conns, <-h.conns)
		}
		if i%3 > 0 {
			s.Start()
		}
		if i%3 == 2 {
			s.ProcessExited()
		}
		s.Close()
		for _, c := range conns {
			c.Close()
		}
	}
	once(2)
	fds, goroutines := countFDs(t), runtime.NumGoroutine()
	for i := range 60 {
		once(i)
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "no descriptor is left", func() bool { return countFDs(t) <= fds })
}

func countFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
