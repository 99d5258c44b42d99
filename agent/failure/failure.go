// Package failure builds the errors that the agent's operations answer with: a code, the steps that led there, an errno, and details
// (SPEC 4.2). Inner packages wrap with Step and New; the control connection turns the chain into its message with Status, in one place.
package failure

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// MaxText bounds a message and each step, in bytes: what a runtime or a spec makes us quote may be long.
const MaxText = 2048

// ErrConnectionLost is the cause with which the context of an operation ends when its control connection has ended, whoever ended it. Nobody has cancelled the operation then.
var ErrConnectionLost = errors.New("the control connection is lost")

// step is one link of the chain: what was being done when err happened.
type step struct {
	name string
	err  error
}

func (s *step) Error() string { return s.name + ": " + s.err.Error() }
func (s *step) Unwrap() error { return s.err }

// Step says what was being done when err happened. It gives nil for a nil err.
func Step(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &step{name: fmt.Sprintf(format, args...), err: err}
}

// cause is the end of the chain: a message with the code of an errdefs error, and perhaps the field refused.
type cause struct {
	kind    error
	message string
	field   string
	errno   syscall.Errno
}

func (c *cause) Error() string { return c.message }

func (c *cause) Unwrap() []error {
	if c.errno != 0 {
		return []error{c.kind, c.errno}
	}
	return []error{c.kind}
}

// New makes the end of a chain. The kind is an error of errdefs, or context.Canceled or context.DeadlineExceeded.
func New(kind error, format string, args ...any) error {
	return &cause{kind: kind, message: fmt.Sprintf(format, args...)}
}

// Field refuses a field of a request or a spec; name is its path: "process.cwd".
func Field(name, format string, args ...any) error {
	return &cause{kind: errdefs.ErrInvalidArgument, field: name, message: name + ": " + fmt.Sprintf(format, args...)}
}

// Errno gives errno the code of kind.
func Errno(kind error, errno syscall.Errno) error {
	return &cause{kind: kind, message: errno.Error(), errno: errno}
}

// Exec gives the errno of an execve(2) its code: NOT_FOUND for a missing program, which a shell answers with 127, PERMISSION_DENIED, as its 126, for one that is
// there and cannot be executed.
func Exec(errno syscall.Errno) error {
	switch errno {
	case syscall.ENOENT:
		return &cause{kind: errdefs.ErrNotFound, message: "not found", errno: errno}
	case syscall.ENOMEM, syscall.EAGAIN, syscall.EMFILE, syscall.ENFILE:
		return Errno(errdefs.ErrResourceExhausted, errno)
	case syscall.E2BIG:
		return Errno(errdefs.ErrInvalidArgument, errno)
	}
	return Errno(errdefs.ErrPermissionDenied, errno)
}

// System gives err the code that its errno suggests, where it has one and no code yet; for operations on the guest's own files, where a missing file
// is NOT_FOUND to the caller too.
func System(err error) error {
	var errno syscall.Errno
	if err == nil || protocol.CodeOf(err) != pb.Code_CODE_UNKNOWN || !errors.As(err, &errno) {
		return err
	}
	return &cause{kind: kindOf(errno), message: err.Error(), errno: errno}
}

func kindOf(errno syscall.Errno) error {
	switch errno {
	case syscall.ENOENT, syscall.ENODEV, syscall.ENXIO, syscall.ESRCH:
		return errdefs.ErrNotFound
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return errdefs.ErrPermissionDenied
	case syscall.EEXIST:
		return errdefs.ErrAlreadyExists
	case syscall.EINVAL, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.ERANGE:
		return errdefs.ErrInvalidArgument
	case syscall.EBUSY, syscall.ENOTEMPTY, syscall.ETXTBSY:
		return errdefs.ErrFailedPrecondition
	case syscall.ENOMEM, syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.EDQUOT:
		return errdefs.ErrResourceExhausted
	case syscall.ENOSYS, syscall.EOPNOTSUPP:
		return errdefs.ErrNotImplemented
	}
	return errdefs.ErrUnknown
}

// Status flattens err into what travels. It is never nil for an error.
func Status(err error) *pb.Error {
	out := &pb.Error{Code: protocol.CodeOf(err)}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		out.LinuxErrno = int32(errno)
	}
	for {
		switch e := err.(type) {
		case *step:
			out.Steps = append(out.Steps, clip(e.name))
			err = e.err
			continue
		case *protocol.StatusError:
			merge(out, e.PB)
			return out
		case *cause:
			out.Field = e.field
		}
		out.Message = clip(err.Error())
		return out
	}
}

// merge puts inner, the status of something that the operation called, below the steps of out.
func merge(out, inner *pb.Error) {
	out.Steps = append(out.Steps, inner.Steps...)
	out.Code, out.Message, out.Field = inner.Code, clip(inner.Message), inner.Field
	out.Range, out.Stream, out.Generation = inner.Range, inner.Stream, inner.Generation
	if inner.LinuxErrno != 0 {
		out.LinuxErrno = inner.LinuxErrno
	}
}

// clip bounds s, and marks the cut.
func clip(s string) string {
	if len(s) <= MaxText {
		return s
	}
	return s[:MaxText-3] + "..."
}
