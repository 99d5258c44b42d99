package hostclient

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fakeGuest is a fake: a scripted stand-in for a guest and its agent, which speaks the real protocol over net.Pipe and runs nothing. It is the
// Transport of the client under test. What real processes do is tested in virtual machines, by package vmtest.
type fakeGuest struct {
	t   testing.TB
	dir string // of the host's listening sockets

	// Set before the client connects.
	handler   func(*fakeCall)          // every operation; nil: answers of fakeTable
	greet     func(net.Conn) error     // in place of the hello
	after     func(net.Conn) error     // in place of yamux, behind the hellos
	limits    *pb.Limits               // of the hello
	refuse    int                      // dials that fail before the first succeeds
	dialError error                    // what they fail with; nil: ECONNREFUSED
	stream    bool                     // over unix sockets instead of net.Pipe
	onStream  func(st *yamux.Stream)   // in place of reading requests
	onSession func(mux *yamux.Session) // besides the streams

	table fakeTable
	wg    sync.WaitGroup

	mu       sync.Mutex
	instance instanceID
	dials    int
	conns    []net.Conn
	opened   int // streams, in all
	closed   bool
}

func newFakeGuest(t testing.TB) *fakeGuest {
	g := &fakeGuest{t: t, dir: t.TempDir(), instance: newID()}
	t.Cleanup(g.close)
	return g
}

func (g *fakeGuest) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.hangUp()
	g.wg.Wait()
}

// hangUp breaks every connection.
func (g *fakeGuest) hangUp() {
	g.mu.Lock()
	conns := g.conns
	g.conns = nil
	g.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// restart makes the guest another life of the agent, which knows nothing.
func (g *fakeGuest) restart() {
	g.mu.Lock()
	g.instance = newID()
	g.mu.Unlock()
	g.table.forget()
	g.hangUp()
}

func (g *fakeGuest) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	if port != protocol.ControlPort {
		return nil, errors.New("fake guest: not the control port")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials++
	if g.closed {
		return nil, net.ErrClosed
	}
	if g.dials <= g.refuse {
		if g.dialError != nil {
			return nil, g.dialError
		}
		return nil, syscall.ECONNREFUSED
	}
	host, guest := net.Pipe()
	if g.stream {
		host, guest = socketPair(g.t)
	}
	g.conns = append(g.conns, guest)
	g.wg.Go(func() { g.serve(guest) })
	return host, nil
}

func (g *fakeGuest) Listen(port uint32) (net.Listener, error) {
	return net.Listen("unix", g.socket(port))
}

func (g *fakeGuest) socket(port uint32) string {
	return filepath.Join(g.dir, strconv.Itoa(int(port)))
}

func (g *fakeGuest) serve(conn net.Conn) {
	defer conn.Close()
	greet := g.greet
	if greet == nil {
		greet = g.hello
	}
	if greet(conn) != nil {
		return
	}
	if g.after != nil {
		_ = g.after(conn)
		return
	}
	mux, err := yamux.Server(conn, fakeMuxConfig())
	if err != nil {
		g.t.Error(err)
		return
	}
	defer mux.Close()
	if g.onSession != nil {
		g.onSession(mux)
	}
	for {
		st, err := mux.AcceptStream()
		if err != nil {
			return
		}
		g.mu.Lock()
		g.opened++
		g.mu.Unlock()
		g.wg.Go(func() {
			defer st.Close()
			if g.onStream != nil {
				g.onStream(st)
				return
			}
			g.serveStream(conn, st)
		})
	}
}

func fakeMuxConfig() *yamux.Config {
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive = false
	cfg.LogOutput = nil
	cfg.Logger = log.New(io.Discard, "", 0)
	return cfg
}

func (g *fakeGuest) hello(conn net.Conn) error {
	g.mu.Lock()
	h := &pb.Hello{Software: "fake guest", Instance: g.instance[:], Limits: g.limits}
	g.mu.Unlock()
	written := make(chan error, 1)
	go func() { written <- protocol.WriteHello(conn, h) }()
	_, err := protocol.ReadHello(conn)
	return errors.Join(err, <-written)
}

// serveStream serves the operations of a stream one after the other. A reader goes on during an operation, to see it cancelled.
func (g *fakeGuest) serveStream(conn net.Conn, st *yamux.Stream) {
	requests := make(chan *pb.Request)
	ctx, cancel := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(requests)
		defer cancel()
		for {
			req, err := protocol.ReadRequest(st, protocol.MaxMessage)
			if err != nil {
				return
			}
			requests <- req
		}
	})
	for req := range requests {
		call := &fakeCall{g: g, ctx: ctx, conn: conn, st: st, req: req}
		if g.handler != nil {
			g.handler(call)
		} else {
			g.table.serve(call)
		}
	}
	reader.Wait()
}

func (g *fakeGuest) count() (dials, streams int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dials, g.opened
}

// fakeCall is an operation that the fake guest is to answer.
type fakeCall struct {
	g    *fakeGuest
	ctx  context.Context // ends when the host cancels
	conn net.Conn
	st   *yamux.Stream
	req  *pb.Request
}

func (c *fakeCall) send(kind protocol.Kind, m protocol.Message) {
	_ = protocol.WriteMessage(c.st, protocol.MaxMessage, kind, m) // a host that is gone is the test's doing
}

func (c *fakeCall) progress(r *pb.Response) { c.send(protocol.KindProgress, r) }

func (c *fakeCall) result(r *pb.Response) { c.send(protocol.KindResult, r) }

func (c *fakeCall) fail(code pb.Code, message string, steps ...string) {
	c.send(protocol.KindError, &pb.Error{Code: code, Message: message, Steps: steps})
}

// cut breaks the connection that carries the call.
func (c *fakeCall) cut() { c.conn.Close() }

func pong() *pb.Response { return &pb.Response{What: &pb.Response_Pong{Pong: &pb.Pong{}}} }

// connect connects a client to g, and closes it at the end of the test.
func connect(t testing.TB, g *fakeGuest, cfg *Config) *Client {
	t.Helper()
	c, err := Connect(t.Context(), g, cfg)
	if err != nil {
		t.Fatalf("Connect(…) = %v; want no error", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// testLogger shows what the client logs with a test that fails.
func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
