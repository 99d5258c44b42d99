package streams

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Options are one stream's wishes, as Create takes them. Attach ignores all of it but Ring of stdin.
type Options struct {
	Mode     pb.StdioMode
	Detached pb.DetachedPolicy
	Ring     uint32 // bytes of the sender's ring; 0: the default
}

// Config describes the stdio of one process.
type Config struct {
	Stdin          io.Reader // nil: not connected
	Stdout, Stderr io.Writer // nil: not connected
	Options        [3]Options
	ConnectTimeout time.Duration // bound on accepting, from Dialing; 0: protocol.ConnectTimeout
	Logger         *slog.Logger  // nil: nothing is logged

	// Attach says that the streams exist already, created by another client: nothing is expected until AttachRequest. Outputs begin where the
	// guest says (AttachAt nil) or at the given offsets.
	Attach   bool
	AttachAt [3]*uint64
}

// LostStream names a connection that broke without anyone asking for it.
type LostStream struct {
	Stream     pb.Stream
	Generation uint32
}

// Set is the host's end of one process's stdio.
type Set struct{}

var errStub = errors.New("not implemented")

// New begins to expect the streams of cfg at the hub. The bound on their arrival runs from Dialing.
func New(hub *Hub, cfg Config) (*Set, error) { return nil, errStub }

// Stdio gives what Create must name.
func (s *Set) Stdio() []*pb.Stdio { return nil }

// Dialing says that the guest dials: the bound on accepting starts (again, after AttachRequest).
func (s *Set) Dialing() {}

// Connected waits until all expected streams have arrived. At the bound, or when ctx ends, its error names the missing ones (it wraps
// context.DeadlineExceeded or ctx's error).
func (s *Set) Connected(ctx context.Context) error { return errStub }

// CloseStdin ends the input early: what the reader gave and was taken into the ring still arrives, then the end. A Read that is going on is abandoned:
// its goroutine ends when that Read returns.
func (s *Set) CloseStdin() {}

// Lost gives the connections that broke. Its buffer holds every stream's newest loss, so nobody has to read it. It is closed by Close.
func (s *Set) Lost() <-chan LostStream { return nil }

// AttachRequest prepares to attach to the named streams, all if none is named, under the generation believed current (that of info where info names the stream:
// what List gave a new client). It drains and closes their old connections first, and expects the new ones with new tokens.
func (s *Set) AttachRequest(takeOver bool, info []*pb.StreamInfo, which ...pb.Stream) ([]*pb.AttachStream, error) {
	return nil, errStub
}

// Attached takes the guest's answer. Connected must have returned nil before.
func (s *Set) Attached(a *pb.Attached) error { return errStub }

// Retry takes the generation that a failed Attach named, for the next AttachRequest.
func (s *Set) Retry(stream pb.Stream, generation uint32) {}

// Finish takes the final lengths from `drained`, waits until they are delivered (of an output that is not drained: until so much is), and checks them. It returns
// the first error of the caller's Reader or Writer, as os/exec does; a stream that ended elsewhere than the guest says wraps errdefs.ErrDataLoss.
func (s *Set) Finish(ctx context.Context, outputs []*pb.Output) error { return errStub }

// Detach ends all connections and leaves the streams to others: the guest is told by record, and keeps what is not received. The process is not disturbed.
func (s *Set) Detach() {}

// Close ends everything and joins every goroutine but one that is in the caller's Read or Write. It may be called more than once.
func (s *Set) Close() error { return nil }
