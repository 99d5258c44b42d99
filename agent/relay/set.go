//go:build linux

package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
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

	// Meanwhile, if not nil, is called while the connections are made; its error ends that. Of the Set it may use ChildFiles, which does not have those of direct streams yet.
	Meanwhile func(*Set) error
}

// streamCount is how many streams a process has.
const streamCount = 3

// Set is the stdio of one process.
type Set struct {
	cfg      *Config
	terminal bool
	owner    []byte
	wg       sync.WaitGroup // every goroutine of the streams
	exited   atomic.Bool
	changes  notifier

	in     *input               // nil: not named, or direct
	outs   [streamCount]*output // nil: not named, or direct
	direct [streamCount]bool

	// closing ends with Close, and with it every Attach.
	closing   context.Context
	close     context.CancelFunc
	closeOnce sync.Once

	mu      sync.Mutex
	ends    [streamCount]*end     // the agent's ends of pipes, until Start
	files   [streamCount]*os.File // the process's, until Start
	master  *os.File              // with a terminal
	started bool
	closed  bool
}

// Connect dials all named streams side by side. A refused or silent host is dialled again with the same token until the connect timeout is over.
// The error is a *protocol.StatusError that names the stream, or that of opt.Meanwhile, and then nothing is left.
func Connect(ctx context.Context, cfg *Config, opt Options) (*Set, error) {
	if err := checkStdio(opt.Stdio, opt.Terminal); err != nil {
		return nil, err
	}
	s := &Set{cfg: cfg, terminal: opt.Terminal, owner: opt.Owner}
	s.closing, s.close = context.WithCancel(context.Background())
	if err := s.connect(ctx, opt); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Set) connect(ctx context.Context, opt Options) error {
	timeout := opt.ConnectTimeout
	if timeout <= 0 {
		timeout = protocol.ConnectTimeout
	}
	ds := make([]*dialing, len(opt.Stdio))
	for i, o := range opt.Stdio {
		ds[i] = &dialing{port: o.Port, preamble: protocol.Preamble{Stream: o.Stream, Mode: o.Mode, Generation: 1, Token: protocol.Token(o.Token)}}
	}
	err := s.cfg.dialAll(ctx, timeout, ds, func() error {
		if err := s.makePipes(opt); err != nil || opt.Meanwhile == nil {
			return err
		}
		return opt.Meanwhile(s)
	})
	if err != nil {
		return err
	}
	for i, o := range opt.Stdio {
		if err := s.adopt(o, ds[i].conn); err != nil {
			for _, d := range ds[i+1:] {
				_ = d.conn.Close()
			}
			return err
		}
	}
	return nil
}

// adopt makes the stream for a connection. The connection is the Set's, whatever happens.
func (s *Set) adopt(o *pb.Stdio, conn net.Conn) error {
	switch {
	case o.Mode == pb.StdioMode_STDIO_MODE_DIRECT:
		return s.adoptDirect(o.Stream, conn)
	case o.Stream == pb.Stream_STREAM_STDIN:
		s.in = newInput(s, o, s.owner, s.terminal)
		s.in.attached(newLink(conn), 1, s.owner)
	default:
		out := newOutput(s, o, s.owner, s.terminal)
		_, _ = out.begin(nil)
		out.attached(newLink(conn), 1, s.owner)
		s.outs[o.Stream] = out
	}
	return nil
}

// ChildFiles gives the process's stdin, stdout and stderr: pipes, /dev/null for a stream that is not named, in direct mode the socket itself, in blocking
// mode. They belong to the Set, which closes them in Start or Close. It is an error with a terminal.
func (s *Set) ChildFiles() ([streamCount]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal || s.started || s.closed {
		return [streamCount]*os.File{}, fmt.Errorf("cannot give files: terminal %t, started %t, closed %t", s.terminal, s.started, s.closed)
	}
	return s.files, nil
}

// Start says that the process has the files: the Set closes its copies and begins to relay.
func (s *Set) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.closed || s.terminal {
		return
	}
	s.started = true
	s.closeFiles()
	if s.in != nil {
		s.in.start(s.ends[pb.Stream_STREAM_STDIN])
	}
	for i, out := range s.outs {
		if out != nil {
			out.start(s.ends[i])
		}
	}
	s.ends = [streamCount]*end{}
}

// StartTerminal begins to relay with a terminal. The Set owns master from now on. It may be blocking or not.
func (s *Set) StartTerminal(master *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer master.Close()
	if s.started || s.closed || !s.terminal {
		return
	}
	if err := s.startTerminal(master); err != nil {
		s.log("cannot relay terminal", pb.Stream_STREAM_STDOUT, err)
	}
}

func (s *Set) startTerminal(master *os.File) error {
	f, err := pollable(master)
	if err != nil {
		return err
	}
	reading, err := newEnd(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	writing, err := newEnd(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.started = true
	s.master = f
	if s.in != nil {
		s.in.start(writing)
	}
	if out := s.outs[pb.Stream_STREAM_STDOUT]; out != nil {
		out.startTerminal(reading, slaveOf(f))
	}
	return nil
}

// Master gives the terminal for a resize; nil before StartTerminal, without a terminal, and after Close.
func (s *Set) Master() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.master
}

// CloseStdin queues the end behind the input received so far and gives the offset of that end. What comes later is dropped. Repeats give the same offset.
func (s *Set) CloseStdin() uint64 {
	if s.in == nil {
		return 0
	}
	return s.in.closeStdin()
}

// ProcessExited begins the accounting of the drain, and stops stdin.
func (s *Set) ProcessExited() {
	if s.exited.Swap(true) {
		return
	}
	if s.in != nil {
		s.in.processExited()
	}
	for _, out := range s.outs {
		if out != nil {
			out.processExited()
		}
	}
}

// Info gives the state of each named stream.
func (s *Set) Info() []*pb.StreamInfo {
	var infos []*pb.StreamInfo
	for i := range streamCount {
		switch r := s.relay(pb.Stream(i)); {
		case r != nil:
			infos = append(infos, r.info())
		case s.direct[i]:
			infos = append(infos, &pb.StreamInfo{Stream: pb.Stream(i), Generation: 1, Attached: !s.exited.Load(), Owner: s.owner, Direct: true})
		}
	}
	return infos
}

// Close ends everything: connections are closed without an end, pipes and terminal are closed, goroutines are joined. It may be called more than once.
func (s *Set) Close() error {
	s.closeOnce.Do(s.shut)
	return nil
}

func (s *Set) shut() {
	s.close()
	s.mu.Lock()
	s.closed = true
	s.closeFiles()
	ends, master := s.ends, s.master
	s.ends, s.master = [streamCount]*end{}, nil
	s.mu.Unlock()
	for i := range streamCount {
		if r := s.relay(pb.Stream(i)); r != nil {
			r.base().attaching <- struct{}{} // the Attach that goes on ends now; there will be no other
			r.shut()
		}
		if ends[i] != nil {
			_ = ends[i].Close()
		}
	}
	if master != nil {
		_ = master.Close()
	}
	s.wg.Wait()
}

// closeFiles closes the process's ends. mu is held.
func (s *Set) closeFiles() {
	for i, f := range s.files {
		if f != nil {
			_ = f.Close()
			s.files[i] = nil
		}
	}
}

func (s *Set) log(msg string, name pb.Stream, err error) {
	if s.cfg.Logger != nil {
		s.cfg.Logger.Debug(msg, "stream", label(name), "error", err)
	}
}
