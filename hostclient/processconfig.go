package hostclient

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// ProcessConfig describes a process. Exactly one of Spec and Process is set: Spec makes a container with its first process, Process a further one,
// in Container or outside every container.
type ProcessConfig struct {
	// ID names the process in the guest, and its container if it makes one; letters, digits, "_", "." and "-", at most 128. Empty: one is made up.
	ID string

	Spec    *specs.Spec     // of a new container
	Files   []ContainerFile // put into it
	Share   []Share         // namespaces that it has together with others
	BuiltIn BuiltIn         // a program of the agent's as its first process

	Container       string         // the container to run in; empty: the guest's own root
	Process         *specs.Process // what to run there
	InheritSeccomp  bool           // with the filter of the container's spec; without it the process is not filtered
	ExternalRuntime string         // path in the guest of the OCI runtime to use; empty: the agent's own

	// Stdin is read until its end, which becomes the process's end of file; nil is /dev/null, or with a terminal nothing. A Read that is going on is abandoned when
	// the process no longer wants input, as in os/exec.
	Stdin io.Reader

	// Stdout and Stderr receive the output, from one goroutine each, or from one at a time if they are the same; nil is /dev/null. With a terminal all
	// output is Stdout's, and Stderr must be nil.
	Stdout, Stderr io.Writer

	// StdinOptions, StdoutOptions and StderrOptions are for the streams that are connected.
	StdinOptions, StdoutOptions, StderrOptions StreamOptions

	// ConnectTimeout bounds how long the guest may take to connect the streams, from when it begins; 0 is 3 s, at most 1 min.
	ConnectTimeout time.Duration

	// DrainTimeout bounds how long [Process.Wait] waits for output that another process holds open, after the exit and after all there is was
	// delivered; 0 is 3 s, negative is for ever.
	DrainTimeout time.Duration

	// AwayTimeout ends the process when no client, this or another one, has had a connection to the guest for so long: a running one is killed, with all of its container if it is
	// the first, and its exit is kept; one that was not started is deleted. 0 is never; at most 49 days.
	AwayTimeout time.Duration

	// OnDelete, if not nil, is called once, after the process is deleted and the host's resources for it are closed.
	OnDelete func()

	Logger *slog.Logger // nil: the client's
}

// StreamOptions are the wishes for one stream.
type StreamOptions struct {
	// Direct gives the process the vsock socket itself: fastest, but /dev/stdout can't be opened, a broken connection is the end, and Wait
	// knows no length. Never with a terminal.
	Direct bool

	// DropOldest lets an output that nobody is attached to forget its oldest bytes when its buffer is full, instead of blocking the process.
	DropOldest bool

	// Buffer is how many bytes are kept for resuming; 0 is 1 MiB, the most; 4 KiB is the least.
	Buffer int
}

// check refuses what can be seen to be wrong before anything happens. Its errors wrap errdefs.ErrInvalidArgument.
func (cfg *ProcessConfig) check() error {
	if err := protocol.CheckID(cfg.ID); err != nil {
		return err
	}
	switch {
	case cfg.Spec == nil && cfg.Process == nil:
		return invalid("neither a container's spec nor a process is given")
	case cfg.Spec != nil && (cfg.Process != nil || cfg.Container != ""):
		return invalid("both a new container's spec and a process for an existing one are given")
	case cfg.Spec == nil && len(cfg.Files) > 0:
		return invalid("files are for a new container")
	case cfg.process() == nil:
		return invalid("the spec has no process")
	case cfg.BuiltIn != NoBuiltIn && cfg.Spec == nil:
		return invalid("only a new container can have a built-in first process")
	case len(cfg.process().Args) == 0 && cfg.BuiltIn != BuiltInPause:
		return invalid("the process has no arguments")
	case cfg.AwayTimeout < 0 || cfg.AwayTimeout > math.MaxUint32*time.Millisecond:
		return invalid("away timeout of %v, must be 0 to 49 days", cfg.AwayTimeout)
	case cfg.ConnectTimeout < 0 || cfg.ConnectTimeout > protocol.MaxConnectTimeout:
		return invalid("connect timeout of %v, at most %v", cfg.ConnectTimeout, protocol.MaxConnectTimeout)
	}
	if cfg.Container != "" {
		if err := protocol.CheckID(cfg.Container); err != nil {
			return fmt.Errorf("container: %w", err)
		}
	}
	if err := checkShares(cfg); err != nil {
		return err
	}
	return cfg.checkStreams()
}

func (cfg *ProcessConfig) checkStreams() error {
	if cfg.process().Terminal && cfg.Stderr != nil {
		return invalid("a terminal has no standard error of its own")
	}
	for i, o := range cfg.options() {
		if o.Direct && cfg.process().Terminal {
			return invalid("%v: a terminal can't be direct", Stream(i))
		}
		if o.Buffer != 0 && (o.Buffer < protocol.MinRing || o.Buffer > protocol.MaxRing) {
			return invalid("%v: buffer of %d bytes, must be %d to %d", Stream(i), o.Buffer, protocol.MinRing, protocol.MaxRing)
		}
	}
	return nil
}

func (cfg *ProcessConfig) process() *specs.Process {
	if cfg.Spec != nil {
		return cfg.Spec.Process
	}
	return cfg.Process
}

func (cfg *ProcessConfig) options() [3]StreamOptions {
	return [3]StreamOptions{cfg.StdinOptions, cfg.StdoutOptions, cfg.StderrOptions}
}

// request makes the Create without its streams.
func (cfg *ProcessConfig) request(requestID instanceID) (*pb.Create, error) {
	create := &pb.Create{
		RequestId:        requestID[:],
		Id:               cfg.ID,
		Runtime:          cfg.ExternalRuntime,
		ConnectTimeoutMs: milliseconds(cfg.ConnectTimeout),
		DrainTimeoutMs:   drainMilliseconds(cfg.DrainTimeout),
		AwayTimeoutMs:    milliseconds(cfg.AwayTimeout),
	}
	size, err := consoleSize(cfg.process().ConsoleSize)
	if err != nil {
		return nil, err
	}
	create.Size = size
	if cfg.Spec != nil {
		spec, err := json.Marshal(withoutShared(cfg.Spec, cfg.Share))
		if err != nil {
			return nil, invalid("the spec can't be encoded: %v", err)
		}
		files, err := fileMessages(cfg.Files)
		if err != nil {
			return nil, err
		}
		create.What = &pb.Create_Container{Container: &pb.Container{Spec: spec, Files: files, Share: shareMessages(cfg.Share), BuiltIn: pb.BuiltIn(cfg.BuiltIn)}}
		return create, nil
	}
	process, err := processMessage(cfg.Process)
	if err != nil {
		return nil, err
	}
	process.InheritSeccomp = cfg.InheritSeccomp
	create.What = &pb.Create_Exec{Exec: &pb.Exec{Container: cfg.Container, Process: process}}
	return create, nil
}

// milliseconds rounds up, so that a bound above 0 doesn't become the default.
func milliseconds(d time.Duration) uint32 {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return uint32(min(ms, math.MaxUint32-1))
}

func drainMilliseconds(d time.Duration) uint32 {
	if d < 0 {
		return protocol.NoDrainTimeout
	}
	return milliseconds(d)
}

// oneAtATime returns writers that exclude each other if both are the same, as os/exec promises.
func oneAtATime(stdout, stderr io.Writer) (io.Writer, io.Writer) {
	if stdout == nil || stderr == nil || !sameWriter(stdout, stderr) {
		return stdout, stderr
	}
	w := &lockedWriter{w: stdout}
	return w, w
}

func sameWriter(a, b io.Writer) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
