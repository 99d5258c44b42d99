package protocol

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestStatusErrorText(t *testing.T) {
	for _, test := range []struct {
		err  *pb.Error
		want string
	}{
		{&pb.Error{}, ""},
		{&pb.Error{Message: "not found"}, "not found"},
		{&pb.Error{Message: "not found", Steps: []string{"start process web", "exec /bin/nope"}}, "start process web: exec /bin/nope: not found"},
		{&pb.Error{Message: "größe 文 ✓"}, "größe 文 ✓"},
		{&pb.Error{Message: "a\x1b[31mb\r\n\x00\x7f"}, "a\uFFFD[31mb\uFFFD\uFFFD\uFFFD\uFFFD"},
		{&pb.Error{Message: "c1 \u009b"}, "c1 \uFFFD"},
		{&pb.Error{Message: "override \u202e invisible \u200b"}, "override \uFFFD invisible \uFFFD"},
		{&pb.Error{Message: "not UTF-8 \xff\xc3"}, "not UTF-8 \uFFFD\uFFFD"},
		{&pb.Error{Message: "m", Steps: []string{"step\n"}}, "step\uFFFD: m"},
	} {
		if got := (&StatusError{PB: test.err}).Error(); got != test.want {
			t.Errorf("Error() of %v = %q; want %q", test.err, got, test.want)
		}
	}
}

// TestCodes walks all codes of the protocol: each has an error, which has it.
func TestCodes(t *testing.T) {
	for number, name := range pb.Code_name {
		code := pb.Code(number)
		if code == pb.Code_CODE_UNSPECIFIED {
			continue
		}
		err := fmt.Errorf("wrapped: %w", &StatusError{PB: &pb.Error{Code: code}})
		if got := CodeOf(err); got != code {
			t.Errorf("CodeOf(status of %s) = %v; want %v", name, got, code)
		}
		if got := CodeOf(errors.Unwrap(errors.Unwrap(err))); got != code {
			t.Errorf("CodeOf(the error that %s unwraps to) = %v; want %v", name, got, code)
		}
	}
}

func TestCodeOf(t *testing.T) {
	for _, test := range []struct {
		err  error
		want pb.Code
	}{
		{errdefs.ErrNotFound, pb.Code_CODE_NOT_FOUND},
		{fmt.Errorf("cannot x: %w", errdefs.ErrOutOfRange), pb.Code_CODE_OUT_OF_RANGE},
		{context.Canceled, pb.Code_CODE_CANCELED},
		{context.DeadlineExceeded, pb.Code_CODE_DEADLINE_EXCEEDED},
		{errors.New("anything"), pb.Code_CODE_UNKNOWN},
	} {
		if got := CodeOf(test.err); got != test.want {
			t.Errorf("CodeOf(%v) = %v; want %v", test.err, got, test.want)
		}
	}
}

func TestUnknownCode(t *testing.T) {
	for _, code := range []pb.Code{pb.Code_CODE_UNSPECIFIED, 19, -1, 1 << 30} {
		if err := error(&StatusError{PB: &pb.Error{Code: code}}); !errors.Is(err, errdefs.ErrUnknown) {
			t.Errorf("an error of code %d is not errdefs.ErrUnknown", code)
		}
	}
}
