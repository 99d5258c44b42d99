package hostclient

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol"
)

var (
	// ErrGuestRestarted says that the guest's agent is not the one in which the process was created: the guest was restarted, and the process is gone. It wraps
	// errdefs.ErrUnavailable.
	ErrGuestRestarted = fmt.Errorf("the guest was restarted: %w", errdefs.ErrUnavailable)

	// ErrClosed says that the client was closed. It wraps errdefs.ErrUnavailable.
	ErrClosed = fmt.Errorf("the client is closed: %w", errdefs.ErrUnavailable)
)

// errDetached is the error of waiting for output after Detach.
var errDetached = errors.New("the process's streams were detached")

// errUnexpected is the protocol error of a response of a type that the operation does not name (SPEC 4).
var errUnexpected = fmt.Errorf("%w: a response that the operation does not have", protocol.ErrProtocol)

// lostError says that an operation has no answer: its stream, or the whole connection, ended first.
type lostError struct {
	sent  bool // the guest may have the request
	alive bool // the connection lives on, only the stream ended
	cause error
}

func (e *lostError) Error() string {
	if e.alive {
		return fmt.Sprintf("the guest gave up the request: %v", e.cause)
	}
	return fmt.Sprintf("lost the connection to the guest: %v", e.cause)
}

// Unwrap lets errdefs.ErrUnavailable hold, and the cause be found.
func (e *lostError) Unwrap() []error { return []error{errdefs.ErrUnavailable, e.cause} }

// operationError is the one place where an operation's error takes its final form. An error of the guest that names its steps is complete;
// everything else is told what was being done.
func operationError(what string, err error) error {
	if err == nil {
		return nil
	}
	var status *protocol.StatusError
	if errors.As(err, &status) && len(status.PB.Steps) > 0 {
		return err
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}

// invalid gives an error that wraps errdefs.ErrInvalidArgument.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

// precondition gives an error that wraps errdefs.ErrFailedPrecondition.
func precondition(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errdefs.ErrFailedPrecondition)
}
