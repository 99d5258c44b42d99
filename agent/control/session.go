package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rawio"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/framefilter"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// readBuffer is what one read of the connection may bring beside the payload of a long request, in bytes.
const readBuffer = 4 << 10

// session is one connection after its hello: the guest's side of yamux (SPEC 3). The frame filter beneath it has refused what the host may not send, so that it need not check that again.
//
// One goroutine, serve, reads the connection, puts requests together, and answers those that are answered at once; every other operation has a goroutine of its own.
type session struct {
	server     *Server
	client     Client
	maxMessage int // what the host accepts
	filter     *framefilter.Conn
	in         *bufio.Reader
	out        writer
	ctx        context.Context // ends with the connection
	operations sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond          // a window has grown, or a stream or the session has ended
	streams map[uint32]*stream // those that one side or both have not ended
	ended   bool
}

// serveSession runs the multiplexed connection until it ends and joins its operations.
func (s *Server) serveSession(ctx context.Context, conn net.Conn, peer *pb.Hello) error {
	filter := framefilter.New(&gatherer{Conn: rawio.NewConn(conn)}, framefilter.Guest, framefilter.Limits{})
	ctx, cancel := context.WithCancelCause(ctx)
	ses := &session{
		server:     s,
		client:     Client{Instance: peer.Instance, Software: peer.Software},
		maxMessage: messageLimit(peer.Limits),
		filter:     filter,
		in:         bufio.NewReaderSize(filter, readBuffer),
		out:        writer{conn: filter},
		ctx:        ctx,
		streams:    make(map[uint32]*stream),
	}
	ses.changed.L = &ses.mu
	err := ses.serve()
	cancel(failure.ErrConnectionLost)
	_ = conn.Close() // ends a write that blocks
	ses.end()
	ses.operations.Wait()
	return sessionEnd(err, filter.Err())
}

func messageLimit(l *pb.Limits) int {
	if n := l.GetMaxMessage(); n > 0 && n < protocol.MaxMessage {
		return int(n)
	}
	return protocol.MaxMessage
}

// sessionEnd tells a connection that the host closed from one that broke, and from one that the frame filter closed.
func sessionEnd(err, refused error) error {
	switch {
	case refused != nil:
		return refused
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, protocol.ErrProtocol):
		return err
	}
	return fmt.Errorf("control connection broke: %w", err)
}

// end lets everybody go who waits for a window.
func (ses *session) end() {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	ses.ended = true
	ses.changed.Broadcast()
}

// serve handles frames until the connection ends.
func (ses *session) serve() error {
	var header [headerSize]byte
	for {
		if _, err := io.ReadFull(ses.in, header[:]); err != nil {
			return err
		}
		if err := ses.handle(parseFrame(&header)); err != nil {
			return err
		}
	}
}

func (ses *session) handle(f frame) error {
	switch f.kind {
	case framePing:
		if f.flags&flagSYN == 0 {
			return nil
		}
		return ses.out.frame(frame{kind: framePing, flags: flagACK, length: f.length})
	case frameGoAway:
		if f.length != 0 {
			return fmt.Errorf("%w: the host gives the connection up for reason %d", protocol.ErrProtocol, f.length)
		}
		return nil // it will take no streams, and gets none
	}
	st := ses.stream(f)
	if f.kind == frameData {
		if err := ses.receive(st, int(f.length)); err != nil {
			return err
		}
	} else if st != nil {
		st.grow(f.length)
	}
	if st != nil && f.flags&(flagFIN|flagRST) != 0 {
		return st.hostEnds(f.flags&flagRST != 0)
	}
	return nil
}

// stream gives the stream of a frame, a new one if the frame opens it; nil if it is gone.
func (ses *session) stream(f frame) *stream {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	st := ses.streams[f.stream]
	if st == nil && f.flags&flagSYN != 0 {
		st = &stream{ses: ses, id: f.stream, window: maxFrame}
		ses.streams[f.stream] = st
	}
	return st
}

// receive takes n bytes of the stream off the connection; nil: nobody wants them.
func (ses *session) receive(st *stream, n int) error {
	for n > 0 && st != nil {
		taken, err := st.receive(n)
		n -= taken
		switch {
		case errors.Is(err, protocol.ErrProtocol):
			ses.server.log.Debug("control stream ended", "stream", st.id, "err", err)
			if err := st.reset(); err != nil {
				return err
			}
			st = nil
		case err != nil:
			return err
		}
	}
	_, err := ses.in.Discard(n)
	return err
}
