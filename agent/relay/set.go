//go:build linux

package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Dial connects to a port of the host. It does not retry.
type Dial func(ctx context.Context, port uint32) (net.Conn, error)

// Config is what all Sets of an agent share. Its fields are read only.
type Config struct {
	Dial   Dial
	Budget *Budget
	Logger *slog.Logger // nil: nothing is logged

	// OnLost is told that a stream's connection of this generation broke, where no Attach, Detach or Close asked for it. It is called
	// without locks, from the stream's goroutine, and must not block. Nil: nobody is told.
	OnLost func(stream pb.Stream, generation uint32)
}

// Options describe the stdio of one process.
type Options struct {
	Stdio          []*pb.Stdio // as in Create; validated by Connect
	Terminal       bool
	Owner          []byte        // instance of the client that asked
	ConnectTimeout time.Duration // 0: protocol.ConnectTimeout
}

// Set is the stdio of one process.
type Set struct{}

var errStub = errors.New("not implemented")

// Connect dials all named streams side by side. A refused or silent host is dialled again with the same token until the connect timeout is over.
// The error is a *protocol.StatusError that names the stream, and then nothing is left. Connect comes before the process exists.
func Connect(ctx context.Context, cfg *Config, opt Options) (*Set, error) { return nil, errStub }

// ChildFiles gives the process's stdin, stdout and stderr: pipes, /dev/null for a stream that is not named, in direct mode the socket itself, in blocking
// mode. They belong to the Set, which closes them in Start or Close. It is an error with a terminal.
func (s *Set) ChildFiles() ([3]*os.File, error) { return [3]*os.File{}, errStub }

// Start says that the process has the files: the Set closes its copies and begins to relay.
func (s *Set) Start() {}

// StartTerminal begins to relay with a terminal. The Set owns master from now on.
func (s *Set) StartTerminal(master *os.File) {}

// Master gives the terminal for a resize; nil before StartTerminal, without a terminal, and after Close.
func (s *Set) Master() *os.File { return nil }

// CloseStdin queues the end behind the input received so far and gives the offset of that end. What comes later is dropped. Repeats give the same offset.
func (s *Set) CloseStdin() uint64 { return 0 }

// ProcessExited begins the accounting of the drain, and stops stdin.
func (s *Set) ProcessExited() {}

// WaitDrained waits until every output is delivered or given up. The bound is compared with the time, from ProcessExited on, in which a stream had a connected
// client and nothing left to deliver, and somebody still held its write end. A negative bound is no bound. The error is the context's.
func (s *Set) WaitDrained(ctx context.Context, bound time.Duration) ([]*pb.Output, error) {
	return nil, errStub
}

// Attach is the operation of SPEC 7. dialing is called, if not nil, before the host is dialled. The error is a *protocol.StatusError.
func (s *Set) Attach(ctx context.Context, a *pb.Attach, owner []byte, dialing func()) (*pb.Attached, error) {
	return nil, errStub
}

// Detach retires the connections of the named generations. The error is a *protocol.StatusError.
func (s *Set) Detach(d *pb.Detach) error { return errStub }

// Info gives the state of each named stream.
func (s *Set) Info() []*pb.StreamInfo { return nil }

// Close ends everything: connections are closed without an end, pipes and terminal are closed, goroutines are joined. It may be called more than once.
func (s *Set) Close() error { return nil }
