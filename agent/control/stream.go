package control

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// maxRunning bounds the goroutines of a stream: one runs the operation, one may still be on its way out of the one before. A host that does not read its answers, and goes on asking,
// could have any number otherwise.
const maxRunning = 2

// errStreamEnded is for an answer that nobody wants any more.
var errStreamEnded = errors.New("the host has closed the stream")

// stream carries one operation at a time.
type stream struct {
	ses *session
	id  uint32

	in       incoming // of the session's reader, as is taken
	consumed int      // bytes taken of which the host does not know yet that there is room for them again

	writing sync.Mutex // one message at a time

	// Guarded by ses.mu.
	window    int64              // bytes that the host takes
	accepted  bool               // the host knows that the stream is accepted
	busy      bool               // an operation is going on: from its request until before its last message
	running   int                // operations whose goroutines have not ended
	hostEnded bool               // it has closed the stream
	gone      bool               // both have, or one has reset it
	ctx       context.Context    // of the operations, made with the first that needs one
	cancel    context.CancelFunc // cancels them
}

// receive takes some of the n bytes that come, and begins the operation that they complete. The error wraps protocol.ErrProtocol if the stream must be reset.
func (st *stream) receive(n int) (int, error) {
	switch busy, ended := st.state(); {
	case ended:
		return st.ses.in.Discard(n)
	case busy:
		return 0, fmt.Errorf("%w: a request during an operation", protocol.ErrProtocol)
	}
	taken, req, err := st.in.take(st.ses.in, n)
	if err != nil {
		return taken, err
	}
	if st.consumed += taken; st.consumed >= maxFrame/2 {
		if err := st.grant(); err != nil {
			return taken, err
		}
	}
	if req == nil {
		return taken, nil
	}
	return taken, st.begin(req)
}

func (st *stream) state() (busy, ended bool) {
	st.ses.mu.Lock()
	defer st.ses.mu.Unlock()
	return st.busy, st.hostEnded
}

// grant tells the host that there is room again for what was taken, and that the stream is accepted.
func (st *stream) grant() error {
	n := st.consumed
	st.consumed = 0
	st.ses.mu.Lock()
	flags := st.accept()
	st.ses.mu.Unlock()
	return st.ses.out.frame(frame{kind: frameWindowUpdate, flags: flags, stream: st.id, length: uint32(n)})
}

// accept gives the flags of the next frame: the first one accepts the stream. ses.mu is held.
func (st *stream) accept() uint16 {
	if st.accepted {
		return 0
	}
	st.accepted = true
	return flagACK
}

// begin runs an operation: here, if it is answered at once and the answer is sure to fit in the host's window, else in a goroutine.
func (st *stream) begin(req *pb.Request) error {
	ses := st.ses
	ses.mu.Lock()
	st.busy = true
	if ses.server.cfg.AtOnce(req) && st.window >= maxFrame/2 {
		ses.mu.Unlock()
		st.run(ses.ctx, req)
		return nil
	}
	for st.running >= maxRunning && !ses.ended {
		ses.changed.Wait()
	}
	if st.ctx == nil {
		st.ctx, st.cancel = context.WithCancel(ses.ctx)
	}
	ctx, accepted := st.ctx, st.accepted
	st.running++
	ses.mu.Unlock()
	ses.operations.Go(func() {
		st.run(ctx, req)
		st.ran()
	})
	if accepted {
		return nil
	}
	return st.grant() // the answer may take long
}

// ran ends the stream behind its last operation if the host has ended it.
func (st *stream) ran() {
	st.ses.mu.Lock()
	st.running--
	st.ses.changed.Broadcast()
	last := st.endIfOver()
	st.ses.mu.Unlock()
	if last != nil {
		_ = st.ses.out.frame(*last) // a connection that is over needs no care
	}
}

// endIfOver forgets the stream if the host has closed it and no operation goes on, and gives the frame that says so. ses.mu is held.
func (st *stream) endIfOver() *frame {
	if !st.hostEnded || st.running > 0 || st.gone {
		return nil
	}
	st.forget()
	return &frame{kind: frameWindowUpdate, flags: flagFIN | st.accept(), stream: st.id}
}

// forget cancels what goes on and takes the stream off the session. ses.mu is held.
func (st *stream) forget() {
	st.gone = true
	delete(st.ses.streams, st.id)
	if st.cancel != nil {
		st.cancel()
	}
	st.ses.changed.Broadcast()
}

// hostEnds does what it means that the host closes or resets the stream: its operation is cancelled.
func (st *stream) hostEnds(reset bool) error {
	st.ses.mu.Lock()
	if reset && !st.gone {
		st.forget()
	}
	st.hostEnded = true
	last := st.endIfOver()
	if last == nil && st.cancel != nil {
		st.cancel()
	}
	st.ses.changed.Broadcast()
	st.ses.mu.Unlock()
	if last == nil {
		return nil
	}
	return st.ses.out.frame(*last)
}

// reset ends the stream of a host that breaks the protocol.
func (st *stream) reset() error {
	st.ses.mu.Lock()
	if !st.gone {
		st.forget()
	}
	st.ses.mu.Unlock()
	return st.ses.out.frame(frame{kind: frameWindowUpdate, flags: flagRST, stream: st.id})
}

// grow notes that the host takes n bytes more.
func (st *stream) grow(n uint32) {
	st.ses.mu.Lock()
	defer st.ses.mu.Unlock()
	st.window += int64(n)
	st.ses.changed.Broadcast()
}

// run does one operation and answers. A failed write needs no care: the session's reader sees the end of the stream.
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

// write sends a message in as many frames as it takes.
func (st *stream) write(kind protocol.Kind, m protocol.Message) error {
	st.writing.Lock()
	defer st.writing.Unlock()
	b := make([]byte, headerSize, headerSize+protocol.MessageHeaderSize+m.SizeVT())
	b, err := protocol.AppendMessage(b, st.ses.maxMessage, kind, m)
	if err != nil {
		return err
	}
	for len(b) > headerSize {
		n, flags, err := st.reserve(len(b)-headerSize, kind != protocol.KindProgress)
		if err != nil {
			return err
		}
		// The header goes where what was sent before has been.
		frame{kind: frameData, flags: flags, stream: st.id, length: uint32(n)}.put(b)
		if err := st.ses.out.write(b[:headerSize+n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// reserve waits until the host takes more of the stream, and says how many of n bytes. With the last of a final message the operation is over: the host may send the next request
// before the write returns.
func (st *stream) reserve(n int, final bool) (int, uint16, error) {
	st.ses.mu.Lock()
	defer st.ses.mu.Unlock()
	for st.window <= 0 && !st.hostEnded && !st.gone && !st.ses.ended {
		st.ses.changed.Wait()
	}
	if st.hostEnded || st.gone || st.ses.ended {
		return 0, 0, errStreamEnded
	}
	part := min(int64(n), st.window, maxFrame)
	st.window -= part
	if final && int(part) == n {
		st.busy = false
	}
	return int(part), st.accept(), nil
}
