//go:build linux

package relay

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// TestFailedWriteIsReported: a write that fails is how the relay learns that the host is gone, and there is nothing else to do: the loss is reported all the same, as the host
// may have no other way to learn that its last word did not arrive.
func TestFailedWriteIsReported(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream pb.Stream
		host   func(*hostConn)
		guest  func(*os.File)
	}{
		{"end of stdout", stdout, func(*hostConn) {}, func(f *os.File) { f.Close() }},
		{"ack of stdin", stdin, func(c *hostConn) { c.chunk(string(make([]byte, protocol.AckBytes+1))) }, func(f *os.File) { _, _ = io.Copy(io.Discard, f) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newFakeHost(t)
			lost := make(chan uint32, 1)
			cfg := &Config{Dial: h.dial, Budget: NewBudget(64 << 20), OnLost: func(_ pb.Stream, gen uint32) { lost <- gen }}
			s, err := Connect(context.Background(), cfg, Options{Stdio: stdioFor(tt.stream)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c := h.next()
			tt.host(c)
			c.Close()
			files, err := s.ChildFiles()
			if err != nil {
				t.Fatal(err)
			}
			child := dupFile(t, files[tt.stream])
			go tt.guest(child)
			s.Start()
			select {
			case gen := <-lost:
				if gen != 1 {
					t.Errorf("OnLost(%d); want 1", gen)
				}
			case <-time.After(10 * time.Second):
				t.Error("OnLost is not called")
			}
		})
	}
}
