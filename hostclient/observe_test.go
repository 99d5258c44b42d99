package hostclient

import (
	"testing"

	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// TestObserveUnattached has the watch, beginning anew, describe a process with a stream that is not attached: what broke while nobody told must be attached again, also
// when all that the guest lacks is the word that its end has arrived.
func TestObserveUnattached(t *testing.T) {
	done := newWaiting()
	done.fail(nil)
	for _, tt := range []struct {
		name    string
		info    *pb.StreamInfo
		waiting *waiting
		want    bool
	}{
		{"open", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT}, newWaiting(), true},
		{"attached", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Attached: true}, newWaiting(), false},
		{"direct", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Direct: true}, newWaiting(), false},
		{"ended", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Ended: true}, newWaiting(), true},
		{"ended, nobody waits", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Ended: true}, nil, true},
		{"ended and drained", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Ended: true}, done, false},
		{"ended input", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDIN, Ended: true}, newWaiting(), false},
		{"another generation", &pb.StreamInfo{Stream: pb.Stream_STREAM_STDOUT, Generation: 5}, newWaiting(), false},
	} {
		s := &stdio{connected: [3]bool{true, true, true}, told: make(chan streams.LostStream, 3)}
		p := &Process{stdio: s, waiting: tt.waiting, exitSeen: make(chan struct{})}
		p.observe(&pb.ProcessInfo{State: pb.State_STATE_EXITED, Streams: []*pb.StreamInfo{tt.info}})
		if got := len(s.told) > 0; got != tt.want {
			t.Errorf("%s: told of a loss = %t; want %t", tt.name, got, tt.want)
		}
	}
}
