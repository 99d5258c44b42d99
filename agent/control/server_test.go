package control

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

const longTime = 30 * time.Second

// echo is a Handler: Ping answers, Info waits for its cancellation, List makes progress until then, everything else fails.
type echo struct {
	begun     chan struct{} // a token for each operation that waits
	cancelled chan struct{} // a token for each operation that was cancelled
}

func (e *echo) Handle(ctx context.Context, c *Call) (*pb.Response, error) {
	switch c.Request.Op.(type) {
	case *pb.Request_Ping:
		return &pb.Response{What: &pb.Response_Pong{Pong: &pb.Pong{}}}, nil
	case *pb.Request_Info:
		e.begun <- struct{}{}
		<-ctx.Done()
		e.cancelled <- struct{}{}
		return nil, ctx.Err()
	case *pb.Request_List:
		for c.Progress(&pb.Response{What: &pb.Response_Listed{Listed: &pb.Listed{
			Processes: []*pb.ProcessInfo{{Id: string(make([]byte, 1000))}},
		}}}) == nil {
		}
		e.cancelled <- struct{}{}
		return nil, ctx.Err()
	case *pb.Request_Mount:
		return bigResponse(), nil
	case *pb.Request_Watch:
		return &pb.Response{What: &pb.Response_Created{Created: &pb.Created{Id: string(make([]byte, protocol.MaxMessage))}}}, nil
	}
	return nil, failure.Step(failure.New(errdefs.ErrNotImplemented, "no"), "echo")
}

var (
	pingReq = &pb.Request{Op: &pb.Request_Ping{Ping: &pb.Ping{}}}
	waitReq = &pb.Request{Op: &pb.Request_Info{Info: &pb.Info{}}}
	moreReq = &pb.Request{Op: &pb.Request_List{List: &pb.List{}}}
	hugeReq = &pb.Request{Op: &pb.Request_Watch{Watch: &pb.Watch{}}}
)

// serve runs a server until the test ends and gives its address. No goroutine may be left.
func serve(t *testing.T, cfg Config) (string, *echo) {
	t.Helper()
	before := runtime.NumGoroutine()
	h := &echo{begun: make(chan struct{}, 10000), cancelled: make(chan struct{}, 10000)}
	cfg.Handler = h
	cfg.AtOnce = func(req *pb.Request) bool { return req.GetPing() != nil }
	cfg.Hello = func() *pb.Hello { return &pb.Hello{Software: "test", Instance: make([]byte, 16)} }
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- NewServer(cfg).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v; want nil", err)
		}
		for deadline := time.Now().Add(longTime); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines are left of %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			}
		}
	})
	return l.Addr().String(), h
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(longTime))
	return conn
}

func greet(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn := dial(t, addr)
	if err := protocol.WriteHello(conn, &pb.Hello{Software: "host"}); err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.ReadHello(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

func newSession(t *testing.T, addr string) *yamux.Session {
	t.Helper()
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive, cfg.LogOutput, cfg.Logger = false, nil, log.New(io.Discard, "", 0)
	mux, err := yamux.Client(greet(t, addr), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mux.Close() })
	return mux
}

func open(t *testing.T, mux *yamux.Session) *yamux.Stream {
	t.Helper()
	st, err := mux.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	_ = st.SetDeadline(time.Now().Add(longTime))
	return st
}

func send(t *testing.T, w io.Writer, req *pb.Request) {
	t.Helper()
	if err := protocol.WriteMessage(w, protocol.MaxMessage, protocol.KindRequest, req); err != nil {
		t.Fatal(err)
	}
}

// closes checks that the agent ends a connection or stream.
func closes(t *testing.T, r io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, r); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("the agent did not close: %v", err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestKeptStream(t *testing.T) {
	addr, _ := serve(t, Config{})
	st := open(t, newSession(t, addr))
	for range 100 {
		send(t, st, pingReq)
		kind, resp, err := protocol.ReadResponse(st, protocol.MaxMessage)
		if err != nil || kind != protocol.KindResult || resp.GetPong() == nil {
			t.Fatalf("Ping = %v, %v, %v; want pong", kind, resp, err)
		}
	}
	send(t, st, &pb.Request{})
	_, _, err := protocol.ReadResponse(st, protocol.MaxMessage)
	var se *protocol.StatusError
	if !errors.As(err, &se) || !errors.Is(err, errdefs.ErrNotImplemented) || se.PB.Steps[0] != "echo" {
		t.Errorf("unknown operation = %v; want not implemented", err)
	}
	send(t, st, hugeReq)
	if _, _, err := protocol.ReadResponse(st, protocol.MaxMessage); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("answer above the limit = %v; want resource exhausted", err)
	}
	send(t, st, pingReq)
	if _, _, err := protocol.ReadResponse(st, protocol.MaxMessage); err != nil {
		t.Errorf("Ping after errors = %v; want pong", err)
	}
}

func TestCancel(t *testing.T) {
	addr, h := serve(t, Config{})
	mux := newSession(t, addr)
	for name, req := range map[string]*pb.Request{"silent": waitReq, "making progress that nobody reads": moreReq} {
		st := open(t, mux)
		send(t, st, req)
		_ = st.Close()
		select {
		case <-h.cancelled:
		case <-time.After(longTime):
			t.Fatalf("%s operation was not cancelled", name)
		}
	}
	const n = 50
	for len(h.begun) > 0 { // of the silent one
		<-h.begun
	}
	for range n {
		send(t, open(t, mux), waitReq)
		<-h.begun
	}
	_ = mux.Close()
	for range n {
		select {
		case <-h.cancelled:
		case <-time.After(longTime):
			t.Fatal("an operation outlives its connection")
		}
	}
}

func TestConcurrentStreams(t *testing.T) {
	addr, _ := serve(t, Config{})
	mux := newSession(t, addr)
	var work sync.WaitGroup
	var pongs atomic.Int32
	for range 64 {
		work.Go(func() {
			st, err := mux.OpenStream()
			if err != nil {
				t.Error(err)
				return
			}
			defer st.Close()
			for range 20 {
				if err := protocol.WriteMessage(st, protocol.MaxMessage, protocol.KindRequest, pingReq); err != nil {
					t.Error(err)
					return
				}
				if _, _, err := protocol.ReadResponse(st, protocol.MaxMessage); err != nil {
					t.Error(err)
					return
				}
				pongs.Add(1)
			}
		})
	}
	work.Wait()
	if n := pongs.Load(); n != 64*20 {
		t.Errorf("%d pongs; want %d", n, 64*20)
	}
}

// TestProtocolErrors ends the stream, and only that.
func TestProtocolErrors(t *testing.T) {
	addr, h := serve(t, Config{})
	mux := newSession(t, addr)
	frame := func(n uint32, kind byte, payload ...byte) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, n), kind), payload...)
	}
	for name, b := range map[string][]byte{
		"unknown kind":       frame(0, 99),
		"a response":         frame(0, byte(protocol.KindResult)),
		"over the limit":     frame(protocol.MaxMessage+1, byte(protocol.KindRequest)),
		"4 GiB":              frame(1<<32-1, byte(protocol.KindRequest)),
		"garbage":            frame(4, byte(protocol.KindRequest), 0xff, 0xff, 0xff, 0xff),
		"cut in the header":  {0, 0},
		"cut in the payload": frame(100, byte(protocol.KindRequest), 1, 2, 3),
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, mux)
			if _, err := st.Write(b); err != nil {
				t.Fatal(err)
			}
			if len(b) < 5 || name == "cut in the payload" {
				_ = st.Close()
			}
			closes(t, st)
		})
	}
	t.Run("a request during an operation", func(t *testing.T) {
		st := open(t, mux)
		send(t, st, waitReq)
		<-h.begun
		send(t, st, pingReq)
		closes(t, st)
		<-h.cancelled
	})
	st := open(t, mux)
	send(t, st, pingReq)
	if _, _, err := protocol.ReadResponse(st, protocol.MaxMessage); err != nil {
		t.Errorf("Ping on another stream = %v; want pong", err)
	}
}

func TestHello(t *testing.T) {
	addr, _ := serve(t, Config{HelloTimeout: 50 * time.Millisecond})
	for name, b := range map[string]string{
		"silence":             "",
		"slow":                "bellhop",
		"garbage":             "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"another version":     "bellhop\x00\x00\x02\x00\x00\x00\x00\x00\x00",
		"body over the bound": "bellhop\x00\x00\x01\x00\x00\xff\xff\xff\xff",
		"body that lies":      "bellhop\x00\x00\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, addr)
			if _, err := conn.Write([]byte(b)); err != nil {
				t.Fatal(err)
			}
			closes(t, conn)
		})
	}
}

func TestAllow(t *testing.T) {
	addr, _ := serve(t, Config{Allow: func(net.Addr) error { return errors.New("not you") }})
	closes(t, dial(t, addr))
}

// TestLimits holds as many connections as are allowed; one more is closed after its hello, and when one goes there is room again.
func TestLimits(t *testing.T) {
	addr, _ := serve(t, Config{})
	var all []*yamux.Session
	for range protocol.MaxControlConns {
		mux := newSession(t, addr)
		ping(t, mux)
		all = append(all, mux)
	}
	closes(t, greet(t, addr))
	_ = all[0].Close()
	for deadline := time.Now().Add(longTime); ; {
		mux := newSession(t, addr)
		if st, err := mux.OpenStream(); err == nil && tryPing(st) == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no room after a connection ended")
		}
	}
}

// TestSilentPeers fill the room for those that have not said hello, and do not keep others that came before from being served.
func TestSilentPeers(t *testing.T) {
	addr, _ := serve(t, Config{})
	mux := newSession(t, addr)
	ping(t, mux)
	for range maxPending {
		if _, err := protocol.ReadHello(dial(t, addr)); err != nil {
			t.Fatal(err)
		}
	}
	closes(t, dial(t, addr))
	ping(t, mux)
}

func ping(t *testing.T, mux *yamux.Session) {
	t.Helper()
	if err := tryPing(open(t, mux)); err != nil {
		t.Fatal(err)
	}
}

func tryPing(st *yamux.Stream) error {
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(longTime))
	if err := protocol.WriteMessage(st, protocol.MaxMessage, protocol.KindRequest, pingReq); err != nil {
		return err
	}
	_, _, err := protocol.ReadResponse(st, protocol.MaxMessage)
	return err
}

func TestServeEndsWithItsListener(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := NewServer(Config{}).Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve() = %v; want that the listener is closed", err)
	}
}

func TestLimitedLog(t *testing.T) {
	l := new(limitedLog)
	now := time.Unix(100, 0)
	if _, ok := l.pass(now); !ok {
		t.Error("the first message is dropped")
	}
	for range 5 {
		if _, ok := l.pass(now.Add(logPeriod / 2)); ok {
			t.Error("a message within the period passes")
		}
	}
	if n, ok := l.pass(now.Add(logPeriod)); !ok || n != 5 {
		t.Errorf("pass() = %d, %v; want 5 dropped, true", n, ok)
	}
}

// FuzzStream sends bytes to a live server, as the content of a stream: it must go on serving others.
func FuzzStream(f *testing.F) {
	h := &echo{begun: make(chan struct{}, 1), cancelled: make(chan struct{}, 1)}
	go func() {
		for range h.cancelled {
			select {
			case <-h.begun:
			default:
			}
		}
	}()
	l, err := net.Listen("unix", filepath.Join(f.TempDir(), "s"))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := NewServer(Config{Handler: h, Hello: func() *pb.Hello { return &pb.Hello{} }})
	go func() { done <- srv.Serve(ctx, l) }()
	f.Cleanup(func() { cancel(); <-done; close(h.cancelled) })

	f.Add([]byte{0, 0, 0, 2, 1, 0x0a, 0})
	f.Add([]byte{0, 0, 0, 2, 1, 0x12, 0, 0, 0, 0, 2, 1, 0x0a, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		mux := newSession(t, l.Addr().String())
		defer mux.Close()
		st := open(t, mux)
		if _, err := st.Write(b); err != nil {
			t.Skip("more than a window")
		}
		_ = st.Close()
		ping(t, mux)
	})
}
