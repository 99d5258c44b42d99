package hostclient

import (
	"context"
	"errors"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// maxResets bounds how often an operation is repeated whose stream the guest ended without an answer while the connection went on.
const maxResets = 3

// operation is a request and what may answer it (SPEC 4.1).
type operation struct {
	what    string // for errors: "start process web"
	request *pb.Request

	// repeat says that the operation may be sent again when its answer was lost: it changes nothing, sets a state, or carries a request id.
	repeat bool
	// done, if not nil, is closed when the answers so far make a repeat one too many: one that the guest might take for new.
	done <-chan struct{}

	// guest binds the operation to one life of the agent: the zero instance is set at the first sending, another one must be that of the connection. Nil: any.
	guest *instanceID

	sending  func()                   // if not nil, called before each sending
	progress func(*pb.Response) error // nil: the operation has none
	result   func(*pb.Response) error
}

func (op operation) takeProgress(r *pb.Response) error {
	if op.progress == nil {
		return errUnexpected
	}
	return op.progress(r)
}

func (op operation) takeResult(r *pb.Response) error { return op.result(r) }

// bind fails if the connection leads to another life of the agent than the operation is about.
func (op operation) bind(s *session) error {
	switch {
	case op.guest == nil:
	case *op.guest == instanceID{}:
		*op.guest = s.guest
	case *op.guest != s.guest:
		return ErrGuestRestarted
	}
	return nil
}

// expect makes an operation's result function that takes the response whose getter is get.
func expect[T any](get func(*pb.Response) *T, dst **T) func(*pb.Response) error {
	return func(r *pb.Response) error {
		v := get(r)
		if v == nil {
			return errUnexpected
		}
		if dst != nil {
			*dst = v
		}
		return nil
	}
}

// call performs an operation, on the next connection again if its answer was lost with one. The error is in its final form.
func (c *Client) call(ctx context.Context, op operation) error {
	return operationError(op.what, c.perform(ctx, op))
}

// repeats says whether it may be sent again now.
func (op operation) repeats() bool {
	select {
	case <-op.done:
		return false
	default:
		return op.repeat
	}
}

func (c *Client) perform(ctx context.Context, op operation) error {
	for resets := 0; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s, err := c.session(ctx)
		if err != nil {
			return err
		}
		if err := op.bind(s); err != nil {
			return err
		}
		if op.sending != nil {
			op.sending()
		}
		err = s.call(ctx, op)
		var lost *lostError
		if !errors.As(err, &lost) || lost.sent && !op.repeats() || errors.Is(err, protocol.ErrProtocol) {
			return err
		}
		if lost.alive {
			if resets++; resets > maxResets {
				return err
			}
		}
	}
}
