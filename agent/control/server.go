package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// maxPending bounds the connections that have not finished their hello, beside the protocol.MaxControlConns that have.
const maxPending = 16

// Client is who sent a request.
type Client struct {
	Instance []byte // from its hello: this life of the client; the owner of what it attaches
	Software string // its name and version, for logs
}

// Call is one operation.
type Call struct {
	Client  Client
	Request *pb.Request

	// Progress sends a message that is not the last. Its error means that the stream is gone; the context is then cancelled too.
	Progress func(*pb.Response) error

	after []func()
}

// After has f called when the answer is written, or held to be written with others at once (gatherer), whether that succeeded or not.
func (c *Call) After(f func()) { c.after = append(c.after, f) }

// Handler runs operations. It is called from many goroutines at once, one for each stream. The context ends when the host closes the stream,
// when the connection is lost, and when the server ends. The error is turned into its message by failure.Status.
type Handler interface {
	Handle(ctx context.Context, call *Call) (*pb.Response, error)
}

// Config says what a Server needs.
type Config struct {
	Handler Handler
	Hello   func() *pb.Hello     // made anew for each connection, right before it is written
	Allow   func(net.Addr) error // nil allows every peer; the error says why not
	Logger  *slog.Logger         // nil: nothing is logged

	// AtOnce tells operations that neither block nor take long, and whose answer is short. They need no goroutine, and cannot be cancelled. Nil: there are none.
	AtOnce func(*pb.Request) bool

	// Present is told true when a connection has said hello and there was none, and false when the last has ended: one call at a time, in their order. Nil: nobody is.
	Present func(bool)

	HelloTimeout time.Duration // 0: protocol.HelloTimeout
}

// Server serves control connections.
type Server struct {
	cfg     Config
	log     *limitedLog
	conns   sync.WaitGroup
	pending chan struct{} // a token for each connection that has not finished its hello
	slots   chan struct{} // a token for each connection that has

	mu    sync.Mutex
	count int // of the connections that Present knows
}

// NewServer makes a Server. Handler and Hello are required.
func NewServer(cfg Config) *Server {
	if cfg.HelloTimeout == 0 {
		cfg.HelloTimeout = protocol.HelloTimeout
	}
	if cfg.AtOnce == nil {
		cfg.AtOnce = func(*pb.Request) bool { return false }
	}
	if cfg.Present == nil {
		cfg.Present = func(bool) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg:     cfg,
		log:     &limitedLog{logger: cfg.Logger},
		pending: make(chan struct{}, maxPending),
		slots:   make(chan struct{}, protocol.MaxControlConns),
	}
}

// Serve accepts connections until the context ends or the listener fails for good, then closes all connections and joins all goroutines, but for operations
// that the kernel does not let go (a mount of a dead server): those it gives up after joinBound. It closes the listener. The error is nil when the context ended it. A Server serves several listeners at once, and all share its limits.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() {
		stop()
		_ = l.Close()
		cancel()
		s.join()
	}()
	for {
		conn, err := l.Accept()
		if err == nil {
			s.admit(ctx, conn)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if !retryable(err) {
			return fmt.Errorf("cannot accept control connections: %w", err)
		}
		s.log.Warn("cannot accept a control connection, trying again", "err", err)
		if !pause(ctx, acceptPause) {
			return nil
		}
	}
}

// joinBound bounds the wait for operations that do not end when they are cancelled.
const joinBound = 5 * time.Second

// join waits for the connections' goroutines.
func (s *Server) join() {
	joined := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(joined)
	}()
	t := time.NewTimer(joinBound)
	defer t.Stop()
	select {
	case <-joined:
	case <-t.C:
		s.cfg.Logger.Error("operations do not end, going on without", "bound", joinBound)
	}
}

// acceptPause keeps a listener that fails for lack of file descriptors or memory from spinning.
const acceptPause = 100 * time.Millisecond

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryable tells a shortage, which passes, and a peer that left before it was accepted, from the end of the listener.
func retryable(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// admit checks the peer and the bound on silent connections, and starts the connection's goroutine.
func (s *Server) admit(ctx context.Context, conn net.Conn) {
	if s.cfg.Allow != nil {
		if err := s.cfg.Allow(conn.RemoteAddr()); err != nil {
			s.log.Warn("refused a control connection", "peer", conn.RemoteAddr(), "err", err)
			_ = conn.Close()
			return
		}
	}
	select {
	case s.pending <- struct{}{}:
	default:
		s.log.Warn("refused a control connection: too many have not said hello", "peer", conn.RemoteAddr(), "limit", maxPending)
		_ = conn.Close()
		return
	}
	s.conns.Go(func() {
		if err := s.serveConn(ctx, conn); err != nil && ctx.Err() == nil {
			s.log.Warn("control connection ended", "peer", conn.RemoteAddr(), "err", err)
		}
	})
}

// serveConn runs one connection from hello to end, and closes it.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	peer, err := s.hello(conn)
	<-s.pending
	if err != nil {
		return err
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return fmt.Errorf("too many control connections, at most %d", protocol.MaxControlConns)
	}
	s.present(1)
	defer s.present(-1)
	return s.serveSession(ctx, conn, peer)
}

// present counts a connection that comes or goes.
func (s *Server) present(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.count
	s.count += by
	if before == 0 || s.count == 0 {
		s.cfg.Present(s.count > 0)
	}
}

// hello exchanges hellos. Both sides write at once, so the write has its own goroutine: a transport without a buffer would lock up otherwise.
func (s *Server) hello(conn net.Conn) (*pb.Hello, error) {
	if err := conn.SetDeadline(time.Now().Add(s.cfg.HelloTimeout)); err != nil {
		return nil, fmt.Errorf("cannot bound the hello: %w", err)
	}
	written := make(chan error, 1)
	go func() { written <- protocol.WriteHello(conn, s.cfg.Hello()) }()
	peer, err := protocol.ReadHello(conn)
	if err != nil {
		_ = conn.Close() // lets the writer go
		<-written
		return nil, err
	}
	if err := <-written; err != nil {
		return nil, err
	}
	return peer, conn.SetDeadline(time.Time{})
}
