package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/framefilter"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// streamCloseTimeout bounds a stream that this side has closed and the host has not: afterwards it is reset.
const streamCloseTimeout = 5 * time.Second

// maxServed bounds the streams of a connection that are served at once. The host may have protocol.MaxStreams open; those that it has closed count here until
// their operation has noticed.
const maxServed = 2 * protocol.MaxStreams

// session is one connection after its hello.
type session struct {
	server     *Server
	client     Client
	maxMessage int // what the host accepts
	open       chan struct{}
}

// serveSession runs the multiplexed connection until it ends and joins its streams.
func (s *Server) serveSession(ctx context.Context, conn net.Conn, peer *pb.Hello) error {
	filter := framefilter.New(conn, framefilter.Guest, framefilter.Limits{})
	mux, err := yamux.Server(filter, muxConfig())
	if err != nil {
		return fmt.Errorf("cannot begin multiplexing: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var streams sync.WaitGroup
	defer func() {
		cancel(failure.ErrConnectionLost)
		_ = mux.Close()
		streams.Wait()
	}()
	ses := &session{
		server:     s,
		client:     Client{Instance: peer.Instance, Software: peer.Software},
		maxMessage: messageLimit(peer.Limits),
		open:       make(chan struct{}, maxServed),
	}
	for {
		st, err := mux.AcceptStream()
		if err != nil {
			return sessionEnd(err, filter.Err())
		}
		select {
		case ses.open <- struct{}{}:
		default:
			return fmt.Errorf("%w: more than %d streams", protocol.ErrProtocol, maxServed)
		}
		streams.Go(func() {
			ses.serveStream(ctx, st)
			<-ses.open
		})
	}
}

// muxConfig: liveness is the host's matter (SPEC 3), so there is no keepalive; only the host opens streams, so there is no open timeout.
func muxConfig() *yamux.Config {
	cfg := yamux.DefaultConfig()
	cfg.AcceptBacklog = protocol.MaxStreams
	cfg.EnableKeepAlive = false
	cfg.StreamOpenTimeout = 0
	cfg.StreamCloseTimeout = streamCloseTimeout
	cfg.LogOutput = nil
	cfg.Logger = log.New(io.Discard, "", 0) // what matters comes back as errors
	return cfg
}

func messageLimit(l *pb.Limits) int {
	if n := l.GetMaxMessage(); n > 0 && n < protocol.MaxMessage {
		return int(n)
	}
	return protocol.MaxMessage
}

// sessionEnd tells a connection that the host closed from one that broke, and from one that the frame filter closed.
func sessionEnd(err, refused error) error {
	if refused != nil {
		return refused
	}
	if errors.Is(err, io.EOF) || errors.Is(err, yamux.ErrSessionShutdown) {
		return nil
	}
	return fmt.Errorf("control connection broke: %w", err)
}
