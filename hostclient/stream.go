package hostclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// stream is a yamux stream that carries one operation after the other. Its goroutine, read, receives everything that the guest sends on it, so that a
// message that nobody asked for is noticed at once.
type stream struct {
	s  *session
	ys *yamux.Stream

	mu        sync.Mutex
	op        *exchange // nil: idle
	dead      error     // why read ended
	abandoned bool
}

// exchange is the operation that a stream carries at the moment.
type exchange struct {
	replies chan reply
	quit    chan struct{} // closed when the caller wants no more replies
}

// reply is one message of the guest, or the end of the stream.
type reply struct {
	response *pb.Response
	final    bool
	err      error // *protocol.StatusError, or *lostError
}

// read is the stream's goroutine. It gives the stream's slot back at the very end, when the guest has closed it too.
func (st *stream) read() {
	defer func() { <-st.s.slots }()
	err := st.receive()
	st.finish(err)
	_ = st.ys.SetReadDeadline(time.Time{})
	_ = st.ys.Close()
	_, _ = io.Copy(io.Discard, st.ys) // until the guest has closed it, or cancelTimeout
}

// receive delivers replies until the stream breaks or is abandoned.
func (st *stream) receive() error {
	for {
		kind, response, err := protocol.ReadResponse(st.ys, protocol.MaxMessage)
		r := reply{response: response, final: kind != protocol.KindProgress, err: err}
		if err != nil && !errors.As(err, new(*protocol.StatusError)) {
			if errors.Is(err, protocol.ErrProtocol) {
				st.s.fail(err)
			}
			return err
		}
		st.s.useful.Store(true)
		st.s.unanswered.Store(0)
		if !st.deliver(r) {
			err := fmt.Errorf("%w: a message on a stream without an operation", protocol.ErrProtocol)
			st.s.fail(err)
			return err
		}
	}
}

// deliver hands a reply to the operation, and reports false if there is none. After the final one the stream has no operation any more, so that whatever
// the guest sends behind it is not taken for the answer to the next.
func (st *stream) deliver(r reply) bool {
	st.mu.Lock()
	op, abandoned := st.op, st.abandoned
	if r.final {
		st.op = nil
	}
	st.mu.Unlock()
	if op == nil {
		return abandoned // it crossed the close
	}
	select {
	case op.replies <- r:
	case <-op.quit:
	}
	return true
}

// finish marks the stream as unusable and tells its operation.
func (st *stream) finish(err error) {
	st.mu.Lock()
	op := st.op
	st.op, st.dead = nil, err
	st.mu.Unlock()
	if op == nil {
		return
	}
	select {
	case op.replies <- reply{final: true, err: st.lost(err)}:
	case <-op.quit:
	}
}

// lost says that the operation on this stream has no answer.
func (st *stream) lost(err error) error {
	if st.s.ended() {
		return &lostError{sent: true, cause: st.s.cause()}
	}
	return &lostError{sent: true, alive: true, cause: err}
}

func (st *stream) usable() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.dead == nil && !st.abandoned
}

// begin makes the stream carry an operation.
func (st *stream) begin() (*exchange, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.dead != nil {
		return nil, &lostError{alive: !st.s.ended(), cause: st.dead}
	}
	st.op = &exchange{replies: make(chan reply, 1), quit: make(chan struct{})}
	return st.op, nil
}

// abandon closes the stream, which cancels its operation in the guest. It doesn't block: read does the work.
func (st *stream) abandon() {
	st.mu.Lock()
	st.op, st.abandoned = nil, true
	st.mu.Unlock()
	_ = st.ys.SetDeadline(time.Unix(1, 0)) // any time that is over
}

// call performs one operation on this connection. Its errors are *protocol.StatusError, *lostError, ctx's cause, or of the operation's own functions;
// what the operation does not expect ends the session.
func (s *session) call(ctx context.Context, op operation) error {
	if n := op.request.SizeVT(); n > s.maxMessage {
		return invalid("the request has %d bytes, the guest takes at most %d", n, s.maxMessage)
	}
	st, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	x, err := st.begin()
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	if !s.send(st, op.request, written) {
		return &lostError{cause: s.cause()}
	}
	err = s.converse(ctx, op, x, written)
	if err == nil || errors.As(err, new(*protocol.StatusError)) {
		s.release(st)
		return err
	}
	close(x.quit)
	st.abandon()
	if errors.Is(err, protocol.ErrProtocol) {
		s.fail(err)
	}
	return err
}

// roomyBytes is what any transport buffers. As long as the guest has less than that to read, a write does not block, and the goroutine that would shield the
// caller's context from it, a fifth of what a call costs here, can be saved. Should it block all the same, writeTimeout is the bound.
const roomyBytes = 16 << 10

// send writes a request, and puts the outcome into written, which has room. It reports false when the session is closed.
func (s *session) send(st *stream, req *pb.Request, written chan<- error) bool {
	write := func() { written <- protocol.WriteMessage(st.ys, s.maxMessage, protocol.KindRequest, req) }
	if s.unanswered.Add(int64(req.SizeVT())) < roomyBytes {
		write()
		return true
	}
	return s.spawn(write)
}

// converse takes the replies of an operation until the final one, and until its request is written.
func (s *session) converse(ctx context.Context, op operation, x *exchange, written <-chan error) error {
	var final *reply
	for final == nil || written != nil {
		select {
		case r := <-x.replies:
			if r.err != nil || r.final {
				final = &r
			} else if err := op.takeProgress(r.response); err != nil {
				return err
			}
		case err := <-written:
			if err != nil {
				return s.writeFailed(err)
			}
			written = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if final.err != nil {
		return final.err
	}
	return op.takeResult(final.response)
}

// writeFailed turns a failed write into the loss that it is. A connection that takes nothing for writeTimeout is stuck, and yamux leaves it at that.
func (s *session) writeFailed(err error) error {
	if errors.Is(err, yamux.ErrConnectionWriteTimeout) {
		s.fail(errors.New("the guest takes no data"))
	}
	if s.ended() {
		return &lostError{sent: true, cause: s.cause()}
	}
	return &lostError{sent: true, alive: true, cause: err}
}
