//go:build linux

package relay

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// checkStdio validates what Create asks for.
func checkStdio(stdio []*pb.Stdio, terminal bool) error {
	var seen [streamCount]bool
	for _, o := range stdio {
		if o.Stream < 0 || int(o.Stream) >= streamCount {
			return streamError(pb.Code_CODE_INVALID_ARGUMENT, 0, fmt.Sprintf("unknown stream %d", o.Stream))
		}
		if msg := refusal(o, terminal); msg != "" {
			return streamError(pb.Code_CODE_INVALID_ARGUMENT, o.Stream, msg)
		}
		if seen[o.Stream] {
			return streamError(pb.Code_CODE_INVALID_ARGUMENT, o.Stream, label(o.Stream)+" is named twice")
		}
		seen[o.Stream] = true
	}
	return nil
}

// refusal says why a stream cannot be as asked; empty if it can.
func refusal(o *pb.Stdio, terminal bool) string {
	direct := o.Mode == pb.StdioMode_STDIO_MODE_DIRECT
	switch {
	case len(o.Token) != protocol.TokenSize:
		return fmt.Sprintf("token of %d bytes, must have %d", len(o.Token), protocol.TokenSize)
	case o.Mode != pb.StdioMode_STDIO_MODE_RESUMABLE && !direct:
		return fmt.Sprintf("unknown mode %d", o.Mode)
	case o.Detached != pb.DetachedPolicy_DETACHED_POLICY_BLOCK && o.Detached != pb.DetachedPolicy_DETACHED_POLICY_DROP_OLDEST:
		return fmt.Sprintf("unknown detached policy %d", o.Detached)
	case o.RingBytes != 0 && (o.RingBytes < protocol.MinRing || o.RingBytes > protocol.MaxRing):
		return fmt.Sprintf("ring of %d bytes, must have %d to %d", o.RingBytes, protocol.MinRing, protocol.MaxRing)
	case terminal && o.Stream == pb.Stream_STREAM_STDERR:
		return "a terminal has no stderr"
	case terminal && direct:
		return "a terminal cannot be direct"
	}
	return ""
}

// makePipes makes what the process gets for its streams, but for the connections that it gets themselves, and with a terminal.
func (s *Set) makePipes(opt Options) error {
	if opt.Terminal {
		return nil
	}
	modes := [streamCount]pb.StdioMode{noMode, noMode, noMode}
	for _, o := range opt.Stdio {
		modes[o.Stream] = o.Mode
	}
	for i, mode := range modes {
		if err := s.makePipe(pb.Stream(i), mode); err != nil {
			return &protocol.StatusError{PB: &pb.Error{Code: pb.Code_CODE_INTERNAL, Message: err.Error()}}
		}
	}
	return nil
}

// noMode is that of a stream which is not named.
const noMode pb.StdioMode = -1

func (s *Set) makePipe(name pb.Stream, mode pb.StdioMode) (err error) {
	output := name != pb.Stream_STREAM_STDIN
	switch mode {
	case pb.StdioMode_STDIO_MODE_RESUMABLE:
		s.ends[name], s.files[name], err = s.cfg.Budget.pipe(label(name), output)
	case noMode:
		s.files[name], err = openNull(output)
	}
	return err
}

// openNull does without the runtime's poller, into which os.Open would try to enter it.
func openNull(output bool) (*os.File, error) {
	flag := unix.O_RDONLY
	if output {
		flag = unix.O_WRONLY
	}
	fd, err := unix.Open(os.DevNull, flag|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	return os.NewFile(uintptr(fd), os.DevNull), nil
}

// adoptDirect makes the connection itself the process's file: a blocking descriptor, as programs expect it. conn is closed.
func (s *Set) adoptDirect(name pb.Stream, conn net.Conn) error {
	defer conn.Close()
	fd, err := blockingDup(conn)
	if err != nil {
		return streamError(pb.Code_CODE_INTERNAL, name, fmt.Sprintf("cannot give the connection to the process: %v", err))
	}
	s.files[name] = os.NewFile(uintptr(fd), label(name))
	s.direct[name] = true
	return nil
}

func blockingDup(conn net.Conn) (fd int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("%T has no descriptor", conn)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := rc.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return -1, cerr
	}
	if err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
