package protocol

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestReadHelloLimits(t *testing.T) {
	for _, test := range []struct {
		name  string
		hello *pb.Hello
		want  string // in the error; "" is none
	}{
		{"nothing said", &pb.Hello{}, ""},
		{"defaults", &pb.Hello{Limits: &pb.Limits{}}, ""},
		{"least", &pb.Hello{Instance: make([]byte, InstanceSize), Limits: &pb.Limits{MaxMessage: MinMessage, MaxStreams: MinStreams, MaxChunk: MinChunk}}, ""},
		{"message", &pb.Hello{Limits: &pb.Limits{MaxMessage: MinMessage - 1}}, "max_message"},
		{"streams", &pb.Hello{Limits: &pb.Limits{MaxStreams: MinStreams - 1}}, "max_streams"},
		{"chunk", &pb.Hello{Limits: &pb.Limits{MaxChunk: 1}}, "max_chunk"},
		{"short instance", &pb.Hello{Instance: make([]byte, InstanceSize-1)}, "instance"},
		{"long instance", &pb.Hello{Instance: make([]byte, InstanceSize+1)}, "instance"},
	} {
		var b bytes.Buffer
		if err := WriteHello(&b, test.hello); err != nil {
			t.Fatal(err)
		}
		_, err := ReadHello(&b)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: ReadHello() = %v; want nil", test.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: ReadHello() = %v; want a protocol error with %q", test.name, err, test.want)
		}
	}
}
