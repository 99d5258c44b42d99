package hostclient

import (
	"testing"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// TestObserveUnattached has the watch, beginning anew, describe a process with a stream that is not attached: what broke while nobody told must be attached again, also
// when all that the guest lacks is the word that its end has arrived.
func TestObserveUnattached(t *testing.T) {
	for _, tt := range []struct {
		name string
		info *pb.StreamInfo
		want bool
	}{
		{"open", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 2}, true},
		{"attached", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 2, Attached: true}, false},
		{"direct", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 2, Direct: true}, false},
		{"ended", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 2, Ended: true}, true},
		{"done", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 2, Ended: true, Done: true}, false},
		{"input", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDIN, Generation: 2}, true},
		{"input that is done", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDIN, Generation: 2, Ended: true, Done: true}, false},
		{"an earlier generation", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 1}, false},
		{"a generation to come", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 3}, true},
	} {
		s := &stdio{connected: [3]bool{true, true, true}, toldNews: make(chan struct{}, 1), generation: [3]uint32{2, 2, 2}}
		p := &Process{stdio: s, exitSeen: make(chan struct{})}
		p.observe(&pb.ProcessInfo{State: pb.State_STATE_EXITED, Streams: []*pb.StreamInfo{tt.info}})
		if got := len(s.takeTold()) > 0; got != tt.want {
			t.Errorf("%s: told of a loss = %t; want %t", tt.name, got, tt.want)
		}
	}
}
