package protocol

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// StatusError is an operation's failure as it travels: the code of containerd's errdefs, the steps that led to it, and its details (SPEC 4.2).
// errors.Is(err, errdefs.ErrNotFound) and the like hold on both sides.
type StatusError struct {
	PB *pb.Error
}

// Error gives the chain in one line: "start process web: exec /bin/nope: not found". Characters that are not printable are replaced by U+FFFD, since the
// peer's text may reach a terminal.
func (e *StatusError) Error() string {
	return printable(strings.Join(append(append([]string(nil), e.PB.Steps...), e.PB.Message), ": "))
}

// Unwrap gives the errdefs error of the code.
func (e *StatusError) Unwrap() error {
	for _, c := range codes {
		if c.code == e.PB.Code {
			return c.err
		}
	}
	return errdefs.ErrUnknown
}

// codes is the one table that both directions use. Canceled and DeadlineExceeded are those of package context, as in errdefs.
var codes = []struct {
	code pb.Code
	err  error
}{
	{pb.Code_CODE_CANCELED, context.Canceled},
	{pb.Code_CODE_UNKNOWN, errdefs.ErrUnknown},
	{pb.Code_CODE_INVALID_ARGUMENT, errdefs.ErrInvalidArgument},
	{pb.Code_CODE_DEADLINE_EXCEEDED, context.DeadlineExceeded},
	{pb.Code_CODE_NOT_FOUND, errdefs.ErrNotFound},
	{pb.Code_CODE_ALREADY_EXISTS, errdefs.ErrAlreadyExists},
	{pb.Code_CODE_PERMISSION_DENIED, errdefs.ErrPermissionDenied},
	{pb.Code_CODE_RESOURCE_EXHAUSTED, errdefs.ErrResourceExhausted},
	{pb.Code_CODE_FAILED_PRECONDITION, errdefs.ErrFailedPrecondition},
	{pb.Code_CODE_ABORTED, errdefs.ErrAborted},
	{pb.Code_CODE_OUT_OF_RANGE, errdefs.ErrOutOfRange},
	{pb.Code_CODE_UNIMPLEMENTED, errdefs.ErrNotImplemented},
	{pb.Code_CODE_INTERNAL, errdefs.ErrInternal},
	{pb.Code_CODE_UNAVAILABLE, errdefs.ErrUnavailable},
	{pb.Code_CODE_DATA_LOSS, errdefs.ErrDataLoss},
	{pb.Code_CODE_UNAUTHENTICATED, errdefs.ErrUnauthenticated},
	{pb.Code_CODE_CONFLICT, errdefs.ErrConflict},
	{pb.Code_CODE_NOT_MODIFIED, errdefs.ErrNotModified},
}

// CodeOf gives the code for err: that of a *StatusError or of the errdefs error in its chain, else CODE_UNKNOWN.
func CodeOf(err error) pb.Code {
	var se *StatusError
	if errors.As(err, &se) {
		return se.PB.Code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return pb.Code_CODE_UNKNOWN
}

// printable replaces what is not graphic: control characters, direction overrides, invisible characters, bytes that are not UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
