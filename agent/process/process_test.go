package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func stateOf(p *Process) pb.State { return p.Info().State }

func TestLifecycle(t *testing.T) {
	table, task := newTable(), new(fakeTask)
	p := add(t, table, Config{ID: "web"}, task)
	if s := stateOf(p); s != pb.State_STATE_CREATED {
		t.Fatalf("state = %v; want created", s)
	}
	started, err := p.Start(t.Context())
	if err != nil || started.Pid != 7 || stateOf(p) != pb.State_STATE_RUNNING {
		t.Fatalf("Start() = %v, %v, state %v; want pid 7, running", started, err, stateOf(p))
	}
	if _, err := p.Start(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("second Start() = %v; want failed precondition", err)
	}
	if _, err := p.Delete(t.Context(), false); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Delete() of a running process = %v; want failed precondition", err)
	}
	if err := p.Signal(syscall.SIGTERM, false); err != nil {
		t.Errorf("Signal() = %v", err)
	}
	task.end(Exit{Code: 42, At: time.Now()})
	exit, err := p.WaitExited(t.Context())
	if err != nil || exit.Code != 42 || exit.StartedAt == 0 {
		t.Errorf("WaitExited() = %v, %v; want code 42", exit, err)
	}
	if err := p.Signal(syscall.SIGTERM, false); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Signal() of an exited process = %v; want failed precondition", err)
	}
	if _, err := p.Delete(t.Context(), false); err != nil {
		t.Errorf("Delete() = %v", err)
	}
	if _, err := p.Delete(t.Context(), false); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("second Delete() = %v; want not found", err)
	}
	if err := p.Signal(syscall.SIGTERM, false); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Signal() of a deleted process = %v; want not found", err)
	}
	if _, err := table.Get("web"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Get() = %v; want not found", err)
	}
}

// TestExitBeforeStartReturns has a process that ends while its start is still going on: the start comes first all the same.
func TestExitBeforeStartReturns(t *testing.T) {
	table, task := newTable(), new(fakeTask)
	p := add(t, table, Config{ID: "web"}, task)
	task.start = func(context.Context) (int, error) {
		task.end(Exit{Code: 3, At: time.Now()})
		if exit := p.Info().Exited; exit != nil {
			t.Errorf("exited before started: %v", exit)
		}
		return 9, nil
	}
	if started, err := p.Start(t.Context()); err != nil || started.Pid != 9 {
		t.Fatalf("Start() = %v, %v; want pid 9", started, err)
	}
	if exit, err := p.WaitExited(t.Context()); err != nil || exit.Code != 3 {
		t.Errorf("WaitExited() = %v, %v; want code 3", exit, err)
	}
	if _, err := p.Delete(t.Context(), false); err != nil {
		t.Errorf("Delete() = %v", err)
	}
}

// TestFailedStart leaves nothing and gives every waiter the reason.
func TestFailedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable()
		task := &fakeTask{start: func(context.Context) (int, error) { return 0, errdefs.ErrPermissionDenied }}
		p := add(t, table, Config{ID: "web"}, task)
		waiters := make(chan error, 3)
		for range cap(waiters) {
			go func() {
				_, err := p.WaitDrained(t.Context(), noBound)
				waiters <- err
			}()
		}
		synctest.Wait()
		if _, err := p.Start(t.Context()); !errors.Is(err, errdefs.ErrPermissionDenied) {
			t.Errorf("Start() = %v; want permission denied", err)
		}
		for range cap(waiters) {
			if err := <-waiters; !errors.Is(err, errdefs.ErrPermissionDenied) {
				t.Errorf("WaitDrained() = %v; want permission denied", err)
			}
		}
		if n := len(table.All()); n != 0 {
			t.Errorf("%d processes are left", n)
		}
		if _, err := p.Start(t.Context()); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Start() after that = %v; want not found", err)
		}
	})
}

// TestCancelledStart has not happened.
func TestCancelledStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, task := newTable(), new(fakeTask)
		p := add(t, table, Config{ID: "web"}, task)
		task.start = func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		if _, err := p.Start(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Start() = %v; want canceled", err)
		}
		if s := stateOf(p); s != pb.State_STATE_CREATED {
			t.Errorf("state = %v; want created", s)
		}
		task.start = nil
		if _, err := p.Start(t.Context()); err != nil {
			t.Errorf("Start() again = %v", err)
		}
		if _, err := p.Delete(t.Context(), true); err != nil {
			t.Errorf("Delete() = %v", err)
		}
	})
}

// TestForcedDeleteInterruptsStart ends a start that would hang for ever.
func TestForcedDeleteInterruptsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, task := newTable(), new(fakeTask)
		p := add(t, table, Config{ID: "web"}, task)
		task.start = func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		started := make(chan error, 1)
		go func() {
			_, err := p.Start(t.Context())
			started <- err
		}()
		synctest.Wait()
		if _, err := p.Delete(t.Context(), true); err != nil {
			t.Errorf("Delete(force) = %v", err)
		}
		if err := <-started; !errors.Is(err, context.Canceled) {
			t.Errorf("Start() = %v; want canceled", err)
		}
	})
}

func TestDeleteBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable()
		p := add(t, table, Config{ID: "web"}, new(fakeTask))
		waited := make(chan *pb.Exited, 1)
		go func() {
			exit, err := p.WaitExited(t.Context())
			if err != nil {
				t.Errorf("WaitExited() = %v", err)
			}
			waited <- exit
		}()
		synctest.Wait()
		if _, err := p.Delete(t.Context(), false); err != nil {
			t.Errorf("Delete() = %v", err)
		}
		if exit := <-waited; exit.StartedAt != 0 || exit.Signal != uint32(syscall.SIGKILL) {
			t.Errorf("WaitExited() = %v; want SIGKILL, never started", exit)
		}
	})
}

func TestFailedDeleteCanBeRepeated(t *testing.T) {
	table := newTable()
	task := &fakeTask{failing: errors.New("busy")}
	p := add(t, table, Config{ID: "web", IsContainer: true}, task)
	if _, err := p.Delete(t.Context(), true); err == nil {
		t.Error("Delete() = nil; want an error")
	}
	if _, err := table.Get("web"); err != nil {
		t.Errorf("Get() after a failed delete = %v; want the process", err)
	}
	add(t, table, Config{ID: "x", Parent: p}, new(fakeTask)) // it takes execs again
	task.failing = nil
	if _, err := p.Delete(t.Context(), true); err != nil {
		t.Errorf("second Delete() = %v", err)
	}
	if n := len(table.All()); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestContainerAndExecs(t *testing.T) {
	table := newTable()
	web := add(t, table, Config{ID: "web", IsContainer: true}, new(fakeTask))
	exec := add(t, table, Config{ID: "sh", Parent: web}, new(fakeTask))
	if _, err := exec.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := exec.Info().Container; c != "web" {
		t.Errorf("container of the exec = %q; want web", c)
	}
	if _, err := web.Delete(t.Context(), false); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Delete() with a live exec = %v; want failed precondition", err)
	}
	if _, err := web.Delete(t.Context(), true); err != nil {
		t.Errorf("Delete(force) = %v", err)
	}
	if n := len(table.All()); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if err := table.Reserve("late"); err != nil {
		t.Fatal(err)
	}
	late := table.New(Config{ID: "late", Parent: web})
	if err := table.Commit(late, new(fakeTask), newFakeStdio()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Commit() of an exec in a deleted container = %v; want failed precondition", err)
	}
}

func TestReserve(t *testing.T) {
	table := newTable()
	if err := table.Reserve("web"); err != nil {
		t.Fatal(err)
	}
	if err := table.Reserve("web"); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second Reserve() = %v; want already exists", err)
	}
	if _, err := table.Get("web"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Get() of a reserved id = %v; want not found", err)
	}
	table.Abandon("web")
	for i := range protocol.MaxProcesses {
		if err := table.Reserve(fmt.Sprint("p", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Reserve("one-more"); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("Reserve() above the limit = %v; want resource exhausted", err)
	}
	for _, id := range []string{"", "..", "a/b", "a\x00b", "-a"} {
		if _, err := table.Get(id); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Get(%q) = %v; want invalid argument", id, err)
		}
	}
}

func TestWatch(t *testing.T) {
	table, task := newTable(), new(fakeTask)
	add(t, table, Config{ID: "old"}, new(fakeTask))
	w := watch(t, table)
	defer w.Close()
	next := func() *pb.Event {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		e, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := next(); e.GetProcess().GetId() != "old" {
		t.Errorf("first event = %v; want process old", e)
	}
	if e := next(); e.GetSynced() == nil {
		t.Errorf("second event = %v; want synced", e)
	}
	p := add(t, table, Config{ID: "new"}, task)
	if _, err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	task.end(Exit{At: time.Now()})
	for _, want := range []pb.State{pb.State_STATE_CREATED, pb.State_STATE_RUNNING, pb.State_STATE_EXITED} {
		if e := next(); e.GetProcess().GetState() != want {
			t.Errorf("event = %v; want state %v", e, want)
		}
	}
	if e := next(); e.GetDrained().GetId() != "new" {
		t.Errorf("event = %v; want drained", e)
	}
	if _, err := p.Delete(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if e := next(); e.GetDeleted().GetId() != "new" {
		t.Errorf("event = %v; want deleted", e)
	}
}

// TestWatchOfLosses wants the state first, and then nothing but the loss of a stream.
func TestWatchOfLosses(t *testing.T) {
	table, task := newTable(), new(fakeTask)
	add(t, table, Config{ID: "old"}, new(fakeTask))
	w, err := table.Hub().Watch(true)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := add(t, table, Config{ID: "new"}, task)
	if _, err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	task.end(Exit{At: time.Now()})
	if _, err := p.Delete(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	table.Hub().OOM("old")
	table.Hub().StreamLost("old", pb.Stream_STREAM_STDOUT, 1)
	for _, want := range []func(*pb.Event) bool{
		func(e *pb.Event) bool { return e.GetProcess().GetId() == "old" },
		func(e *pb.Event) bool { return e.GetSynced() != nil },
		func(e *pb.Event) bool { return e.GetStreamLost().GetId() == "old" },
	} {
		e, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !want(e) {
			t.Errorf("event = %v; want the process, then synced, then the loss", e)
		}
	}
}

func watch(t *testing.T, table *Table) *Watcher {
	t.Helper()
	w, err := table.Hub().Watch(false)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWatchersAreBounded(t *testing.T) {
	table := newTable()
	for range maxWatchers - 1 {
		watch(t, table)
	}
	last := watch(t, table)
	if _, err := table.Hub().Watch(false); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("Watch() above the limit = %v; want resource exhausted", err)
	}
	last.Close()
	watch(t, table)
}

// TestSlowWatcher falls behind and is told so; others are not held up.
func TestSlowWatcher(t *testing.T) {
	table := newTable()
	slow := watch(t, table)
	defer slow.Close()
	for range protocol.MaxWatchQueue + 10 {
		table.Hub().OOM("web")
	}
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = slow.Next(t.Context())
	}
	if !errors.Is(err, errdefs.ErrResourceExhausted) || n > protocol.MaxWatchQueue+2 {
		t.Errorf("Next() = %v after %d events; want resource exhausted", err, n)
	}
}

// TestConcurrency does everything to one process at once. The race detector and the end are what is tested.
func TestConcurrency(t *testing.T) {
	for range 200 {
		table, task := newTable(), new(fakeTask)
		p := add(t, table, Config{ID: "web", IsContainer: true}, task)
		w := watch(t, table)
		var work sync.WaitGroup
		for _, f := range []func(){
			func() { _, _ = p.Start(t.Context()) },
			func() { _ = p.Signal(syscall.SIGTERM, false) },
			func() { _ = p.Signal(syscall.SIGKILL, true) },
			func() { _, _ = p.WaitDrained(t.Context(), noBound) },
			func() { task.end(Exit{Code: 1, At: time.Now()}) },
			func() { _, _ = p.Delete(t.Context(), true) },
			func() { _, _ = p.Delete(t.Context(), true) },
			func() { p.Info() },
			func() { watch(t, table).Close() },
		} {
			work.Go(f)
		}
		work.Wait()
		w.Close()
		if n := len(table.All()); n != 0 {
			t.Fatalf("%d processes are left", n)
		}
	}
}

func TestResizeRefuses(t *testing.T) {
	table := newTable()
	plain := add(t, table, Config{ID: "plain"}, new(fakeTask))
	tty := add(t, table, Config{ID: "tty", Terminal: true}, new(fakeTask))
	if err := plain.Resize(&pb.Size{Columns: 80, Rows: 24}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Resize() without a terminal = %v; want failed precondition", err)
	}
	for _, s := range []*pb.Size{{Columns: 1 << 16}, {Rows: 1 << 31}} {
		if err := tty.Resize(s); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Resize(%v) = %v; want invalid argument", s, err)
		}
	}
	if err := tty.Resize(&pb.Size{}); err != nil {
		t.Errorf("Resize(0, 0) before the start = %v", err)
	}
	if _, err := plain.CloseStdin(); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("CloseStdin() without stdin = %v; want failed precondition", err)
	}
}
