package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// stream carries one operation at a time. The reader is the goroutine that serves it: it always reads, so that it sees the host close the stream
// in mid-operation. The worker runs the operations.
type stream struct {
	ses  *session
	conn *yamux.Stream
	busy atomic.Bool // an operation is going on: from its request until before its last message
}

// serveStream serves st until the host closes it, breaks the protocol, or the context ends.
func (ses *session) serveStream(ctx context.Context, conn *yamux.Stream) {
	ctx, cancel := context.WithCancelCause(ctx)
	st := &stream{ses: ses, conn: conn}
	requests := make(chan *pb.Request)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for req := range requests {
			st.run(ctx, req)
		}
	}()

	err := st.read(ctx, requests)
	cancel(whyEnded(conn))
	_ = conn.SetDeadline(past) // a worker that writes to a host that does not read comes back
	close(requests)
	<-done
	_ = conn.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		ses.server.log.Debug("control stream ended", "stream", conn.StreamID(), "err", err)
	}
}

// whyEnded tells a stream that the host closed, which cancels its operation, from one that ended with its connection.
func whyEnded(conn *yamux.Stream) error {
	if conn.Session().IsClosed() {
		return failure.ErrConnectionLost
	}
	return context.Canceled
}

// largeRequest is the size in bytes from which on a stream's buffer is worth giving back.
const largeRequest = 4096

// past is a deadline that is over.
var past = time.Unix(1, 0)

// read hands requests to the worker until the stream ends. The context cannot interrupt a read, but ends only with the session, which does.
func (st *stream) read(ctx context.Context, requests chan<- *pb.Request) error {
	for {
		req, err := protocol.ReadRequest(st.conn, protocol.MaxMessage)
		if err != nil {
			return err
		}
		if !st.busy.CompareAndSwap(false, true) {
			return fmt.Errorf("%w: a request during an operation", protocol.ErrProtocol)
		}
		select {
		case requests <- req:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run does one operation and answers. A failed write needs no care: the reader sees the end of the stream.
func (st *stream) run(ctx context.Context, req *pb.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call := &Call{
		Client:   st.ses.client,
		Request:  req,
		Progress: func(r *pb.Response) error { return st.write(protocol.KindProgress, r) },
	}
	resp, err := st.ses.server.cfg.Handler.Handle(ctx, call)
	defer func() {
		for _, f := range call.after {
			f()
		}
	}()
	if req.SizeVT() > largeRequest {
		st.conn.Shrink() // it would keep a buffer of that size
	}
	// From here the host may send the next request: it may come before Write returns.
	st.busy.Store(false)
	if err == nil {
		err = st.result(resp)
	}
	if err != nil && ctx.Err() == nil {
		_ = st.write(protocol.KindError, failure.Status(err))
	}
}

// result sends the result; the error is for an answer too large for the host, which is told so instead.
func (st *stream) result(resp *pb.Response) error {
	if n := resp.SizeVT(); n > st.ses.maxMessage {
		return failure.New(errTooLarge, "the answer has %d bytes, the host takes %d", n, st.ses.maxMessage)
	}
	_ = st.write(protocol.KindResult, resp)
	return nil
}

// write sends a message. A connection on which nothing moves for yamux's write timeout is closed: yamux would keep it for ever, half dead.
func (st *stream) write(kind protocol.Kind, m protocol.Message) error {
	err := protocol.WriteMessage(st.conn, st.ses.maxMessage, kind, m)
	if errors.Is(err, yamux.ErrConnectionWriteTimeout) {
		_ = st.conn.Session().Close()
	}
	return err
}
