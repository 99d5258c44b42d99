package failure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestStatus(t *testing.T) {
	inner := &protocol.StatusError{PB: &pb.Error{
		Code: pb.Code_CODE_OUT_OF_RANGE, Steps: []string{"attach stdout"}, Message: "too old", Range: &pb.Range{First: 3, Next: 9}, Generation: 4,
	}}
	for _, tt := range []struct {
		name string
		err  error
		want *pb.Error
	}{
		{"plain", errors.New("oops"), &pb.Error{Code: pb.Code_CODE_UNKNOWN, Message: "oops"}},
		{"wrapped code", fmt.Errorf("so: %w", errdefs.ErrUnavailable), &pb.Error{Code: pb.Code_CODE_UNAVAILABLE, Message: "so: unavailable"}},
		{"context", context.DeadlineExceeded, &pb.Error{Code: pb.Code_CODE_DEADLINE_EXCEEDED, Message: "context deadline exceeded"}},
		{
			"steps", Step(Step(Exec(syscall.ENOENT), "exec %s", "/bin/nope"), "start process %s", "web"),
			&pb.Error{Code: pb.Code_CODE_NOT_FOUND, Steps: []string{"start process web", "exec /bin/nope"}, Message: "not found", LinuxErrno: 2},
		},
		{
			"field", Step(Field("process.cwd", "%q", "x"), "create"),
			&pb.Error{Code: pb.Code_CODE_INVALID_ARGUMENT, Steps: []string{"create"}, Message: `process.cwd: "x"`, Field: "process.cwd"},
		},
		{
			"a status inside", Step(inner, "attach to process %s", "web"),
			&pb.Error{
				Code: pb.Code_CODE_OUT_OF_RANGE, Steps: []string{"attach to process web", "attach stdout"}, Message: "too old",
				Range: &pb.Range{First: 3, Next: 9}, Generation: 4,
			},
		},
		{
			"system", System(&fs.PathError{Op: "mount", Path: "/x", Err: syscall.EBUSY}),
			&pb.Error{Code: pb.Code_CODE_FAILED_PRECONDITION, Message: "mount /x: device or resource busy", LinuxErrno: int32(syscall.EBUSY)},
		},
		{
			"system keeps a code", System(New(errdefs.ErrNotFound, "no")),
			&pb.Error{Code: pb.Code_CODE_NOT_FOUND, Message: "no"},
		},
	} {
		if got := Status(tt.err); !got.EqualVT(tt.want) {
			t.Errorf("%s: Status(%v) = %v; want %v", tt.name, tt.err, got, tt.want)
		}
	}
}

func TestStatusIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	s := Status(Step(errors.New(long), "%s", long))
	if len(s.Message) != MaxText || len(s.Steps[0]) != MaxText {
		t.Errorf("Status(1 MiB) has a message of %d and a step of %d bytes; want %d", len(s.Message), len(s.Steps[0]), MaxText)
	}
}

func TestStepKeepsNil(t *testing.T) {
	if err := Step(nil, "x"); err != nil {
		t.Errorf("Step(nil) = %v; want nil", err)
	}
	if err := System(nil); err != nil {
		t.Errorf("System(nil) = %v; want nil", err)
	}
}

func TestExec(t *testing.T) {
	for errno, want := range map[syscall.Errno]error{
		syscall.ENOENT: errdefs.ErrNotFound, syscall.EACCES: errdefs.ErrPermissionDenied, syscall.ENOEXEC: errdefs.ErrPermissionDenied,
		syscall.ENOMEM: errdefs.ErrResourceExhausted, syscall.E2BIG: errdefs.ErrInvalidArgument,
	} {
		if err := Exec(errno); !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("Exec(%v) = %v; want %v with the errno", errno, err, want)
		}
	}
}
