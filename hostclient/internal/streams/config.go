package streams

import (
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

// streamCount is how many streams a process has.
const streamCount = 3

// Config describes the stdio of one process.
type Config struct {
	Stdin          io.Reader // nil: not connected
	Stdout, Stderr io.Writer // nil: not connected
	Options        [streamCount]Options
	ConnectTimeout time.Duration // bound on accepting, from Dialing; 0: protocol.ConnectTimeout
	Logger         *slog.Logger  // nil: nothing is logged

	// Attach says that the streams exist already, created by another client: nothing is expected until AttachRequest. Outputs begin where the
	// guest says (AttachAt nil) or at the given offsets.
	Attach   bool
	AttachAt [streamCount]*uint64
}

// LostStream names a connection that broke without anyone asking for it.
type LostStream struct {
	Stream     pb.Stream
	Generation uint32
}
