package hostclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func sleeper(id string) ProcessConfig {
	return ProcessConfig{ID: id, Process: &specs.Process{Args: []string{"sleep"}, Cwd: "/"}}
}

// newProcess describes a process and deletes it at the end of the test.
func newProcess(t *testing.T, c *Client, cfg ProcessConfig) *Process {
	t.Helper()
	p, err := c.NewProcess(cfg)
	if err != nil {
		t.Fatalf("NewProcess(…) = %v; want no error", err)
	}
	t.Cleanup(func() { p.ForceDelete(context.Background()) })
	return p
}

func TestProcessConfigErrors(t *testing.T) {
	c := connect(t, newFakeGuest(t), nil)
	process := &specs.Process{Args: []string{"x"}}
	terminal := &specs.Process{Args: []string{"x"}, Terminal: true}
	var out bytes.Buffer
	tests := []struct {
		name string
		cfg  ProcessConfig
	}{
		{"nothing to run", ProcessConfig{}},
		{"two things to run", ProcessConfig{Spec: DefaultSpec("/", "x"), Process: process}},
		{"a spec without a process", ProcessConfig{Spec: &specs.Spec{}}},
		{"no arguments", ProcessConfig{Process: &specs.Process{}}},
		{"an id with a slash", ProcessConfig{ID: "a/b", Process: process}},
		{"an id of dots", ProcessConfig{ID: "..", Process: process}},
		{"an id with NUL", ProcessConfig{ID: "a\x00", Process: process}},
		{"an id of 10 KB", ProcessConfig{ID: strings.Repeat("a", 10000), Process: process}},
		{"a container with a slash", ProcessConfig{Container: "a/b", Process: process}},
		{"a terminal and stderr", ProcessConfig{Process: terminal, Stderr: &out}},
		{"a direct terminal", ProcessConfig{Process: terminal, StdoutOptions: StreamOptions{Direct: true}}},
		{"a buffer too small", ProcessConfig{Process: process, StdoutOptions: StreamOptions{Buffer: 1}}},
		{"a buffer too large", ProcessConfig{Process: process, StdoutOptions: StreamOptions{Buffer: 2 << 20}}},
		{"a negative buffer", ProcessConfig{Process: process, StdoutOptions: StreamOptions{Buffer: -1}}},
		{"a timeout too long", ProcessConfig{Process: process, ConnectTimeout: time.Hour}},
		{"a negative timeout", ProcessConfig{Process: process, ConnectTimeout: -1}},
	}
	for _, tt := range tests {
		if _, err := c.NewProcess(tt.cfg); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: NewProcess(…) = %v; want errdefs.ErrInvalidArgument", tt.name, err)
		}
	}
}

func TestLifecycle(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	c := connect(t, g, nil)
	ctx := t.Context()
	deleted := 0
	cfg := sleeper("web")
	cfg.OnDelete = func() { deleted++ }
	p := newProcess(t, c, cfg)

	for name, err := range map[string]error{
		"Start":  p.Start(ctx),
		"Kill":   p.Kill(ctx, SIGTERM),
		"Resize": p.Resize(ctx, 80, 24),
	} {
		if !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s() before Create = %v; want errdefs.ErrFailedPrecondition", name, err)
		}
	}
	if _, err := p.Wait(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Wait() before Create = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := p.Create(ctx); err != nil {
		t.Fatalf("Create() = %v; want no error", err)
	}
	if err := p.Create(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("second Create() = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if pid := p.Pid(); pid != -1 {
		t.Errorf("Pid() before Start = %d; want -1", pid)
	}
	if err := p.Start(ctx); err != nil {
		t.Fatalf("Start() = %v; want no error", err)
	}
	if err := p.Start(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("second Start() = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if pid := p.Pid(); pid != 42 {
		t.Errorf("Pid() = %d; want 42", pid)
	}
	if err := p.Delete(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) || deleted != 0 {
		t.Errorf("Delete() of a running process = %v; want errdefs.ErrFailedPrecondition", err)
	}
	for _, size := range [][2]int{{-1, 24}, {80, 65536}} {
		if err := p.Resize(ctx, size[0], size[1]); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Resize(%v) = %v; want errdefs.ErrInvalidArgument", size, err)
		}
	}
	if err := p.Resize(ctx, 80, 65535); err != nil {
		t.Errorf("Resize(80, 65535) = %v; want no error", err)
	}
	if err := p.Kill(ctx, SIGKILL); err != nil {
		t.Errorf("Kill() = %v; want no error", err)
	}
	if st, err := p.Wait(ctx); err != nil || st.Signal != SIGKILL || st.ExitCode() != 137 {
		t.Errorf("Wait() = %v, %v; want SIGKILL", st, err)
	}
	if err := p.Kill(ctx, SIGKILL); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Kill() of an exited process = %v; want errdefs.ErrFailedPrecondition", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := p.Delete(ctx); err != nil {
				t.Errorf("Delete() = %v; want no error", err)
			}
		})
	}
	wg.Wait()
	if n := g.table.times("delete web"); deleted != 1 || n != 1 {
		t.Errorf("OnDelete ran %d times, and the guest deleted %d times; want once", deleted, n)
	}
	if err := p.Kill(ctx, SIGKILL); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Kill() of a deleted process = %v; want errdefs.ErrNotFound", err)
	}
	if st, err := p.Wait(ctx); err != nil || st.Signal != SIGKILL {
		t.Errorf("Wait() after Delete = %v, %v; want what it was", st, err)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.table.script = func(c *fakeCall) bool {
		if c.req.GetCreate() == nil {
			return false
		}
		c.send(4, &pb.Error{Code: pb.Code_CODE_NOT_FOUND, LinuxErrno: 2, Message: "not found", Steps: []string{"start process web", "exec /bin/nope"}})
		return true
	}
	c := connect(t, g, nil)
	p := newProcess(t, c, sleeper("web"))
	err := p.Launch(t.Context())
	if !errors.Is(err, errdefs.ErrNotFound) || err.Error() != "start process web: exec /bin/nope: not found" {
		t.Errorf("Launch() = %v; want the guest's error", err)
	}
	if code := ShellCode(err); code != 127 {
		t.Errorf("ShellCode(%v) = %d; want 127", err, code)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List() = %v, %v; want none", list, err)
	}
}

// A Launch that is cancelled with its answer on the way leaves a process that Delete finds.
func TestCancelledLaunch(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g.table.script = func(c *fakeCall) bool {
		if c.req.GetCreate() == nil {
			return false
		}
		if _, err := g.table.createLocked(c.req.GetCreate()); err != nil {
			t.Error(err)
		}
		cancel()
		<-c.ctx.Done()
		return true
	}
	c := connect(t, g, nil)
	p := newProcess(t, c, sleeper("web"))
	if err := p.Launch(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Launch() = %v; want context.Canceled", err)
	}
	if _, err := p.ForceDelete(t.Context()); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
	if n := g.table.times("delete web"); n != 1 {
		t.Errorf("the guest deleted it %d times; want once", n)
	}
}

func TestManyWaiters(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	c := connect(t, g, nil)
	p := newProcess(t, c, sleeper("web"))
	if err := p.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wait := func() {
		if st, err := p.Wait(t.Context()); err != nil || st.Code != 42 {
			t.Errorf("Wait() = %v, %v; want code 42", st, err)
		}
		if st, err := p.WaitExit(t.Context()); err != nil || st.Code != 42 {
			t.Errorf("WaitExit() = %v, %v; want code 42", st, err)
		}
	}
	for range 100 { // before the start
		wg.Go(wait)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait() = %v; want the context's error", err)
	}
	cancel()
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 100 { // during the run
		wg.Go(wait)
	}
	g.hangUp()
	g.table.exit("web", &pb.Exited{Code: 42})
	wg.Wait()
	wait() // after the exit
	if _, streams := g.count(); streams > 20 {
		t.Errorf("%d streams for 200 waiters; want a few", streams)
	}
}

// More processes run than a connection has streams: each is waited for all the same, and other calls go through.
func TestMoreProcessesThanStreams(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.limits = &pb.Limits{MaxStreams: 8}
	c := connect(t, g, nil)
	const n = 100
	var launched, done sync.WaitGroup
	var right atomic.Int32
	for i := range n {
		id := fmt.Sprint("p", i)
		p := newProcess(t, c, sleeper(id))
		launched.Add(1)
		done.Go(func() {
			err := p.Launch(t.Context())
			launched.Done()
			if err != nil {
				t.Errorf("Launch() = %v; want no error", err)
				return
			}
			st, err := p.Wait(t.Context())
			if err != nil || st.Code != i {
				t.Errorf("Wait() = %v, %v; want code %d", st, err, i)
				return
			}
			right.Add(1)
		})
	}
	launched.Wait()
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v; want no error", err)
	}
	for i := range n {
		g.table.exit(fmt.Sprint("p", i), &pb.Exited{Code: int32(i)})
	}
	done.Wait()
	if right.Load() != n {
		t.Errorf("%d of %d waits were right", right.Load(), n)
	}
}

// Those that were started first run for ever, and some that have exited never deliver their output: the others are waited for all the same.
func TestWaitBesideThoseThatNeverEnd(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.limits = &pb.Limits{MaxStreams: 16}
	g.table.script = func(c *fakeCall) bool {
		w := c.req.GetWait()
		if w == nil || !strings.HasPrefix(w.Id, "held") {
			return false
		}
		c.progress(&pb.Response{What: &pb.Response_Exited{Exited: &pb.Exited{Code: 7}}})
		<-c.ctx.Done()
		return true
	}
	c := connect(t, g, nil)
	launch := func(id string) *Process {
		p := newProcess(t, c, sleeper(id))
		if err := p.Launch(t.Context()); err != nil {
			t.Fatalf("Launch() = %v; want no error", err)
		}
		return p
	}
	for i := range cap(c.long) + 2 {
		launch(fmt.Sprint("endless", i))
	}
	const n = 4
	var waits sync.WaitGroup
	for i := range n {
		held, free := launch(fmt.Sprint("held", i)), launch(fmt.Sprint("free", i))
		waits.Go(func() {
			if st, err := held.WaitExit(t.Context()); err != nil || st.Code != 7 {
				t.Errorf("WaitExit() of one whose output is held = %v, %v; want code 7", st, err)
			}
		})
		waits.Go(func() {
			if st, err := free.Wait(t.Context()); err != nil || st.Code != i {
				t.Errorf("Wait() = %v, %v; want code %d", st, err, i)
			}
		})
	}
	for i := range n {
		g.table.exit(fmt.Sprint("held", i), &pb.Exited{Code: 7})
		g.table.exit(fmt.Sprint("free", i), &pb.Exited{Code: int32(i)})
	}
	waits.Wait()
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v; want no error", err)
	}
}

func TestWatch(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	c := connect(t, g, nil)
	p := newProcess(t, c, sleeper("web"))
	if err := p.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []string
	var last error
	for event, err := range c.Watch(ctx) {
		last = err
		switch e := event.(type) {
		case ProcessChanged:
			seen = append(seen, e.ID+" "+e.State.String())
			if e.State == StateExited {
				cancel()
			}
		case Synced:
			seen = append(seen, "synced")
			switch g.table.times("watch") {
			case 1:
				g.hangUp()
			case 2:
				if err := p.Start(t.Context()); err != nil {
					t.Error(err)
				}
				g.table.exit("web", &pb.Exited{})
			}
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the last pair had %v; want context.Canceled", last)
	}
	got := strings.ReplaceAll(strings.Join(seen, ", "), "web running, ", "") // an intermediate state, which may be missed
	if want := "web created, synced, web created, synced, web exited"; got != want {
		t.Errorf("events: %s; want %s", got, want)
	}
	for range c.Watch(t.Context()) {
		break // a loop that is left ends the operation
	}
}

func TestWatchTooSlow(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	var watches atomic.Int32
	g.handler = func(c *fakeCall) {
		if watches.Add(1) < 3 {
			c.fail(pb.Code_CODE_RESOURCE_EXHAUSTED, "too slow")
			return
		}
		c.progress(&pb.Response{What: &pb.Response_Event{Event: &pb.Event{What: &pb.Event_Synced{Synced: &pb.Synced{}}}}})
		<-c.ctx.Done()
	}
	c := connect(t, g, nil)
	for e, err := range c.Watch(t.Context()) {
		if _, ok := e.(Synced); !ok || err != nil {
			t.Errorf("event %v, %v; want Synced", e, err)
		}
		break
	}
	if n := watches.Load(); n != 3 {
		t.Errorf("%d watches; want 3", n)
	}
}

func TestAttachWithoutStreams(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	first := connect(t, g, nil)
	if err := newProcess(t, first, sleeper("web")).Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.Close()

	c := connect(t, g, nil)
	if _, err := c.Attach(t.Context(), "nope", nil); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Attach(nope) = %v; want errdefs.ErrNotFound", err)
	}
	p, err := c.Attach(t.Context(), "web", nil)
	if err != nil {
		t.Fatalf("Attach(web) = %v; want no error", err)
	}
	if p.Pid() != 42 {
		t.Errorf("Pid() = %d; want 42", p.Pid())
	}
	if err := p.Kill(t.Context(), SIGTERM); err != nil {
		t.Errorf("Kill() = %v; want no error", err)
	}
	if st, err := p.Wait(t.Context()); err != nil || st.Signal != SIGTERM {
		t.Errorf("Wait() = %v, %v; want SIGTERM", st, err)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
}

func TestCmd(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.table.script = func(c *fakeCall) bool {
		if create := c.req.GetCreate(); create != nil && create.GetExec() != nil {
			args := create.GetExec().GetProcess().GetArgs()
			r, err := g.table.createLocked(create)
			if err != nil {
				t.Error(err)
			}
			c.progress(r)
			switch args[0] {
			case "true":
				g.table.exit(create.Id, &pb.Exited{})
			case "false":
				g.table.exit(create.Id, &pb.Exited{Code: 1})
			case "abort":
				g.table.exit(create.Id, &pb.Exited{Signal: 6, Core: true})
			}
			g.table.wait(c, create.Id, false)
			return true
		}
		return false
	}
	c := connect(t, g, nil)
	tests := []struct {
		name string
		want string
		code int
	}{
		{"true", "", 0},
		{"false", "exit status 1", 1},
		{"abort", "signal: SIGABRT (core dumped)", 134},
	}
	for _, tt := range tests {
		err := c.Command(t.Context(), tt.name).Run()
		if got := fmt.Sprint(err); err != nil && got != tt.want || err == nil && tt.want != "" || ShellCode(err) != tt.code {
			t.Errorf("Command(%s).Run() = %v, code %d; want %q, code %d", tt.name, err, ShellCode(err), tt.want, tt.code)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := c.Command(ctx, "sleep")
	if err := cmd.Start(); err != nil {
		t.Fatalf("Start() = %v; want no error", err)
	}
	cancel()
	err := cmd.Wait()
	exit, ok := errors.AsType[*ExitError](err)
	if !errors.Is(err, context.Canceled) || !ok || exit.Signal != SIGKILL {
		t.Errorf("Wait() of a cancelled command = %v; want context.Canceled and SIGKILL", err)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List() = %v, %v; want none left", list, err)
	}
}

func TestCmdMisuse(t *testing.T) {
	c := connect(t, newFakeGuest(t), nil)
	cmd := c.Command(t.Context(), "x")
	if err := cmd.Wait(); err == nil {
		t.Error("Wait() before Start has no error; want one")
	}
	cmd.Stdout = io.Discard
	if _, err := cmd.Output(); err == nil {
		t.Error("Output() with Stdout set has no error; want one")
	}
	if _, err := cmd.CombinedOutput(); err == nil {
		t.Error("CombinedOutput() with Stdout set has no error; want one")
	}
	if _, err := cmd.StdoutPipe(); err == nil {
		t.Error("StdoutPipe() with Stdout set has no error; want one")
	}
}
