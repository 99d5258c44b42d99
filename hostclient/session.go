package hostclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/framefilter"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

const (
	// maxIdle is how many streams are kept open between operations; more are closed.
	maxIdle = 64

	// cancelTimeout is how long a guest may take to close a stream that was cancelled before it is reset.
	cancelTimeout = 2 * time.Second

	// writeTimeout bounds a frame's way into the connection. A guest that takes nothing for so long is stuck, or paused.
	writeTimeout = 10 * time.Second
)

// errEnded is the cause of a session whose connection simply ended.
var errEnded = errors.New("the connection ended")

// session is one control connection after the hello: a yamux client and its streams. Every stream that was opened has a goroutine that reads it until
// its end; close joins them.
type session struct {
	mux        *yamux.Session
	filter     *framefilter.Conn
	software   string // the agent's name and version
	guest      instanceID
	maxMessage int // bytes that the guest accepts
	log        *slog.Logger

	slots  chan struct{} // one element for each open stream
	idle   chan *stream
	useful atomic.Bool // the guest has answered something

	unanswered atomic.Int64 // bytes of requests since the guest's last message
	wg         sync.WaitGroup

	mu      sync.Mutex
	failure error // why it ended, if it is known
	closed  bool  // no goroutine may be added
}

// newSession takes conn over, after the hellos. It sends GoAway first of all: only the host opens streams.
func newSession(conn net.Conn, hello *pb.Hello, log *slog.Logger) (*session, error) {
	limits := hello.GetLimits()
	streams := bounded(limits.GetMaxStreams(), protocol.MaxStreams)
	s := &session{
		filter:     framefilter.New(conn, framefilter.Host, framefilter.Limits{MaxStreams: streams}),
		software:   hello.Software,
		guest:      instanceID(hello.Instance),
		maxMessage: bounded(limits.GetMaxMessage(), protocol.MaxMessage),
		log:        log,
		slots:      make(chan struct{}, usableStreams(streams)),
		idle:       make(chan *stream, min(usableStreams(streams), maxIdle)),
	}
	mux, err := yamux.Client(s.filter, muxConfig(log))
	if err != nil {
		return nil, fmt.Errorf("cannot begin multiplexing: %w", err)
	}
	s.mux = mux
	if err := mux.GoAway(); err != nil {
		mux.Close()
		return nil, fmt.Errorf("cannot begin multiplexing: %w", &lostError{cause: err})
	}
	return s, nil
}

// bounded takes a limit from the guest's hello: 0 is the default, and more than the default is not made use of.
func bounded(limit uint32, def int) int {
	if limit == 0 || uint64(limit) > uint64(def) {
		return def
	}
	return int(limit)
}

// usableStreams leaves a few of the guest's limit unused: a stream whose close was cut short counts for the guest until it has our reset.
func usableStreams(limit int) int { return limit - limit/16 }

func muxConfig(log *slog.Logger) *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          protocol.MaxStreams,
		KeepAliveInterval:      time.Hour, // unused, but checked
		ConnectionWriteTimeout: writeTimeout,
		MaxStreamWindowSize:    256 << 10, // yamux's least
		StreamOpenTimeout:      0,         // a paused machine acknowledges nothing; the operation has its own bound
		StreamCloseTimeout:     cancelTimeout,
		Logger:                 muxLogger{log},
	}
}

// muxLogger hands yamux's lines to slog. What they tell of the peer comes up again as an error.
type muxLogger struct{ log *slog.Logger }

func (l muxLogger) Print(v ...any)                 { l.log.Debug(fmt.Sprint(v...)) }
func (l muxLogger) Printf(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l muxLogger) Println(v ...any)               { l.log.Debug(fmt.Sprintln(v...)) }

func (s *session) done() <-chan struct{} { return s.mux.CloseChan() }

func (s *session) ended() bool { return s.mux.IsClosed() }

// fail ends the session for the reason err; the first reason counts.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.failure == nil {
		s.failure = err
	}
	s.mu.Unlock()
	s.mux.Close()
}

// close ends the session, joins its goroutines and says why it ended. reason counts if there was none before.
func (s *session) close(reason error) error {
	s.fail(reason)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
	return s.cause()
}

// cause says why the session ended: a frame that the guest may not send, else the reason of fail.
func (s *session) cause() error {
	if err := s.filter.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		return errEnded
	}
	return s.failure
}

// spawn runs f in a goroutine that close joins, unless the session is closed already.
func (s *session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// acquire gives a stream without an operation: a kept one, or else a new one as soon as the guest's limit allows it.
func (s *session) acquire(ctx context.Context) (*stream, error) {
	for {
		select {
		case st := <-s.idle:
			if st.usable() {
				return st, nil
			}
			continue
		default:
		}
		select {
		case st := <-s.idle:
			if st.usable() {
				return st, nil
			}
		case s.slots <- struct{}{}:
			return s.open(ctx)
		case <-s.done():
			return nil, &lostError{cause: s.cause()}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// open opens a stream; the caller has taken its slot. yamux knows no context here, so when ctx ends first the stream is kept for others.
func (s *session) open(ctx context.Context) (*stream, error) {
	opened := make(chan *stream)
	ok := s.spawn(func() {
		ys, err := s.mux.OpenStream()
		if err != nil {
			<-s.slots
			s.fail(err) // a session that opens no more streams is of no use
			return
		}
		st := &stream{s: s, ys: ys}
		s.wg.Go(st.read) // close waits for this goroutine, so it may still add one
		select {
		case opened <- st:
		case <-ctx.Done():
			s.release(st)
		case <-s.done():
		}
	})
	if !ok {
		<-s.slots
		return nil, &lostError{cause: s.cause()}
	}
	select {
	case st := <-opened:
		return st, nil
	case <-s.done():
		return nil, &lostError{cause: s.cause()}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// release keeps an idle stream for the next operation, or closes it when enough are kept.
func (s *session) release(st *stream) {
	select {
	case s.idle <- st:
	default:
		st.abandon()
	}
}
