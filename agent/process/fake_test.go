package process

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fakeTask is a Task that runs nothing: the test says what happens.
type fakeTask struct {
	start  func(ctx context.Context) (int, error) // nil: pid 7
	exited func(Exit)

	mu      sync.Mutex
	signals []syscall.Signal
	deletes int
	failing error // of Delete
	ended   bool
	pause   func(ctx context.Context) error // nil: at once
}

func (f *fakeTask) Pause(ctx context.Context) error {
	if f.pause == nil {
		return nil
	}
	return f.pause(ctx)
}

func (f *fakeTask) Resume(context.Context) error { return nil }
func (f *fakeTask) Update([]byte) error          { return nil }

func (f *fakeTask) Start(ctx context.Context, _ *pb.Size) (int, error) {
	if f.start == nil {
		return 7, nil
	}
	return f.start(ctx)
}

func (f *fakeTask) Signal(sig syscall.Signal) error {
	f.mu.Lock()
	f.signals = append(f.signals, sig)
	ended := f.ended
	f.mu.Unlock()
	if ended {
		return syscall.ESRCH
	}
	if sig == syscall.SIGKILL {
		f.end(Exit{Signal: sig, At: time.Now()})
	}
	return nil
}

func (f *fakeTask) SignalAll(sig syscall.Signal) error { return f.Signal(sig) }

func (f *fakeTask) Delete(_ context.Context, kill bool) ([]*pb.Holder, error) {
	f.mu.Lock()
	f.deletes++
	failing, ended := f.failing, f.ended
	f.mu.Unlock()
	if failing != nil {
		return nil, failing
	}
	if kill && !ended {
		f.end(Exit{Signal: syscall.SIGKILL, At: time.Now()})
	}
	return nil, nil
}

// end is the process's end, once.
func (f *fakeTask) end(e Exit) {
	f.mu.Lock()
	ended := f.ended
	f.ended = true
	f.mu.Unlock()
	if !ended && f.exited != nil {
		f.exited(e)
	}
}

// fakeStdio is a Stdio without streams, whose drain the test allows.
type fakeStdio struct {
	drained chan struct{} // closed when all is drained
	closed  chan struct{}
	once    sync.Once
}

func newFakeStdio() *fakeStdio {
	s := &fakeStdio{drained: make(chan struct{}), closed: make(chan struct{})}
	close(s.drained)
	return s
}

func (s *fakeStdio) CloseStdin() uint64 { return 0 }
func (s *fakeStdio) Master() *os.File   { return nil }
func (s *fakeStdio) ProcessExited()     {}

func (s *fakeStdio) WaitDrained(ctx context.Context, _ time.Duration) ([]*pb.Output, error) {
	select {
	case <-s.drained:
		return nil, nil
	case <-s.closed:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *fakeStdio) Attach(context.Context, *pb.Attach, []byte, func()) (*pb.Attached, error) {
	return &pb.Attached{}, nil
}
func (s *fakeStdio) Detach(*pb.Detach) error { return nil }
func (s *fakeStdio) Info() []*pb.StreamInfo  { return nil }

func (s *fakeStdio) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func newTable() *Table { return NewTable(slog.New(slog.DiscardHandler)) }

// add makes a process that exists, with a fake task.
func add(t testing.TB, table *Table, cfg Config, task *fakeTask) *Process {
	t.Helper()
	if err := table.Reserve(cfg.ID); err != nil {
		t.Fatal(err)
	}
	p := table.New(cfg)
	task.exited = p.Exited
	if err := table.Commit(p, task, newFakeStdio()); err != nil {
		t.Fatal(err)
	}
	return p
}
