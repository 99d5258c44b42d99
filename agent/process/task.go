package process

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Task is a process in the kernel's terms. Its maker is given the Process's Exited, which it calls once when the process has ended, from any goroutine, also before
// Start has returned. Start and Delete are never called at the same time.
type Task interface {
	// Start releases the process to exec and gives its pid in the guest's first pid namespace, or says why it did not exec; then nothing of it
	// runs any more. A terminal of the given size belongs to a process that has one.
	Start(ctx context.Context, size *pb.Size) (pid int, err error)

	// Signal sends to the process itself. The errors are ESRCH when it is gone, and NotStarted when there is none yet.
	Signal(sig syscall.Signal) error

	// SignalAll sends to everything in the process's cgroup, where it has one of its own.
	SignalAll(sig syscall.Signal) error

	// Delete ends what is left and frees everything; it may be called again after an error. With kill, the process may still run. The
	// holders are descendants that survive.
	Delete(ctx context.Context, kill bool) ([]*pb.Holder, error)
}

// Stdio moves the bytes of a process: a *relay.Set.
type Stdio interface {
	CloseStdin() (offset uint64)
	Master() *os.File
	ProcessExited()
	WaitDrained(ctx context.Context, bound time.Duration) ([]*pb.Output, error)
	Attach(ctx context.Context, a *pb.Attach, owner []byte, dialing func()) (*pb.Attached, error)
	Detach(d *pb.Detach) error
	Info() []*pb.StreamInfo
	Close() error
}

// Exit is how a process ended.
type Exit struct {
	Code      int // 0..255, meaningless with a signal
	Signal    syscall.Signal
	Core      bool
	OOMKilled bool
	At        time.Time
}

// killedBeforeStart is what waiters are told about a process that was deleted before it ran.
func killedBeforeStart() Exit { return Exit{Signal: syscall.SIGKILL, At: time.Now()} }
