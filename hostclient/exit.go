package hostclient

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// ExitStatus says how a process ended.
type ExitStatus struct {
	Code      int       // 0..255; 0 when a signal ended it
	Signal    Signal    // 0: none
	Core      bool      // it left a core dump
	OOMKilled bool      // SIGKILL while its container was out of memory; best effort
	StartedAt time.Time // by the guest's clock; zero: it never ran
	ExitedAt  time.Time

	// Outputs tells, for each output that was connected and is not direct, how it ended. It is empty from [Process.WaitExit].
	Outputs []Output
}

// ExitCode gives the status as a shell does: the process's code, or 128 and the signal's number.
func (s ExitStatus) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// Success reports whether the process exited with code 0.
func (s ExitStatus) Success() bool { return s.Code == 0 && s.Signal == 0 }

// String gives "exit status 1" or "signal: SIGSEGV (core dumped)".
func (s ExitStatus) String() string {
	var b strings.Builder
	if s.Signal != 0 {
		fmt.Fprintf(&b, "signal: %v", s.Signal)
	} else {
		fmt.Fprintf(&b, "exit status %d", s.Code)
	}
	if s.Core {
		b.WriteString(" (core dumped)")
	}
	if s.OOMKilled {
		b.WriteString(" (out of memory)")
	}
	return b.String()
}

// Output is how an output stream ended.
type Output struct {
	Stream  Stream
	Length  uint64   // bytes from its beginning
	Drained bool     // false: somebody still held it open when the wait's bound ran out; the rest goes on arriving until Delete
	Stopped bool     // the caller's Writer failed, and the rest was not wanted
	Holders []Holder // who held it, as far as is known
}

// Holder is a process in the guest.
type Holder struct {
	Pid          int    // in the guest's first pid namespace
	ContainerPid int    // in its own
	Name         string // its comm, of at most 15 bytes; the guest's word, not fit for a terminal
}

// Stream is one of a process's three.
type Stream int

// The streams are numbered as their file descriptors.
const (
	Stdin  Stream = 0
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	switch s {
	case Stdin:
		return "stdin"
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	}
	return fmt.Sprintf("stream %d", int(s))
}

// ExitError is the error of a [Cmd] whose process ran and did not succeed.
type ExitError struct {
	ExitStatus

	// Stderr holds the last 64 KiB of the process's standard error, if [Cmd.Output] collected it, as nobody else did.
	Stderr []byte
}

func (e *ExitError) Error() string { return e.ExitStatus.String() }

// The exit codes of a shell, and of docker and podman, for what did not run.
const (
	exitFailed        = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

// ShellCode gives the code with which a command should exit whose Run, or Wait, returned err: 0 for nil, [ExitStatus.ExitCode] for an *ExitError, 127 for a program that
// the guest did not find, 126 for one that it could not execute, and 125 for all else.
func ShellCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return exit.ExitCode()
	}
	status, ok := errors.AsType[*protocol.StatusError](err)
	if !ok {
		return exitFailed
	}
	// Only a failing exec has an errno together with these codes: an unknown container, say, has none.
	switch errno := syscall.Errno(status.PB.LinuxErrno); {
	case errors.Is(err, errdefs.ErrNotFound) && errno != 0:
		return exitNotFound
	case errors.Is(err, errdefs.ErrPermissionDenied) && errno != 0:
		return exitNotExecutable
	}
	return exitFailed
}

func exitStatus(e *pb.Exited) ExitStatus {
	s := ExitStatus{
		Signal:    Signal(min(e.GetSignal(), maxSignal)),
		Core:      e.GetCore(),
		OOMKilled: e.GetOomKilled(),
		StartedAt: guestTime(e.GetStartedAt()),
		ExitedAt:  guestTime(e.GetExitedAt()),
	}
	if s.Signal == 0 {
		s.Code = int(e.GetCode()) & 0xff
	}
	return s
}

func drainedStatus(d *pb.Drained) ExitStatus {
	s := exitStatus(d.GetExited())
	for _, o := range d.GetOutputs() {
		s.Outputs = append(s.Outputs, Output{
			Stream:  Stream(o.GetStream()),
			Length:  o.GetLength(),
			Drained: o.GetDrained(),
			Stopped: o.GetStopped(),
			Holders: holders(o.GetHolders()),
		})
	}
	return s
}

func holders(list []*pb.Holder) []Holder {
	var hs []Holder
	for _, h := range list {
		hs = append(hs, Holder{Pid: int(h.GetPid()), ContainerPid: int(h.GetContainerPid()), Name: h.GetName()})
	}
	return hs
}

// guestTime converts nanoseconds since the epoch; 0 is the zero time.
func guestTime(ns uint64) time.Time {
	if ns == 0 || ns > 1<<63-1 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns))
}
