//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/spawn"
	"github.com/bellhop-vm/bellhop/agent/statistics"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fakeTasks makes processes that are fakes: no kernel process stands behind them. They write a line when they start and end when they are killed.
// What is real here: the control connection, the operations, the process table and the relays.
type fakeTasks struct {
	made    atomic.Int32
	started atomic.Int32
	deleted atomic.Int32
	block   chan struct{} // if not nil, making waits for it or for its context

	statistics func() (*pb.ContainerStatistics, error)
}

type fakeTask struct {
	tasks  *fakeTasks
	exited func(process.Exit)
	stdout func() (*os.File, error)
	begin  func()
	end    sync.Once
	done   chan struct{}
}

func (f *fakeTasks) task(exited func(process.Exit)) *fakeTask {
	f.made.Add(1)
	return &fakeTask{tasks: f, exited: exited, done: make(chan struct{})}
}

func (f *fakeTasks) Container(ctx context.Context, _ string, req *container.Request) (containerTask, error) {
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	t := f.task(req.Exited)
	out, err := dup(req.Stdio[1])
	t.stdout = func() (*os.File, error) { return out, err }
	t.begin = func() {}
	return t, nil
}

func (f *fakeTasks) Exec(_ process.Task, cfg spawn.Config) (execTask, error) {
	return f.task(cfg.Exited), nil
}

// dup keeps a file open that the relay closes when the process has it, as a fork does.
func dup(f *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (t *fakeTask) SetStdio(s spawn.Stdio) {
	t.begin = s.Start
	t.stdout = func() (*os.File, error) {
		files, err := s.ChildFiles()
		if err != nil {
			return nil, err
		}
		return dup(files[1])
	}
}

func (t *fakeTask) Start(context.Context, *pb.Size) (int, error) {
	out, err := t.stdout()
	if err != nil {
		return 0, err
	}
	t.begin()
	defer out.Close()
	if _, err := fmt.Fprintln(out, "started"); err != nil {
		return 0, err
	}
	return int(t.tasks.started.Add(1)), nil
}

func (t *fakeTask) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		t.kill()
	}
	return nil
}

func (t *fakeTask) kill() {
	t.end.Do(func() {
		t.exited(process.Exit{Signal: syscall.SIGKILL, At: time.Now()})
		close(t.done)
	})
}

func (t *fakeTask) SignalAll(sig syscall.Signal) error { return t.Signal(sig) }

func (t *fakeTask) Delete(context.Context, bool) ([]*pb.Holder, error) {
	t.kill()
	t.tasks.deleted.Add(1)
	return nil, nil
}

func (t *fakeTask) Prepare() error               { return nil }
func (t *fakeTask) Pause(context.Context) error  { return nil }
func (t *fakeTask) Resume(context.Context) error { return nil }
func (t *fakeTask) Update([]byte) error          { return nil }

func (t *fakeTask) Statistics(*statistics.Reader) (*pb.ContainerStatistics, error) {
	return t.tasks.statistics()
}

func (t *fakeTask) Master() *os.File { return nil }

func (t *fakeTask) Init() (int, *os.File, error) {
	return 0, nil, errors.New("a fake has no process")
}

// newFake serves an agent with fake processes.
func newFake(t testing.TB) (*host, *fakeTasks) {
	t.Helper()
	dir, tasks := t.TempDir(), new(fakeTasks)
	a := newAgent(Config{
		Dial: dialPort(dir), Logger: slog.New(slog.DiscardHandler), Software: "bellhopd test",
		Timeline: Timeline{Init: 1, Main: 2, Listen: 3}, PID1: true,
	}, tasks, new(container.Profiles))
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return serveAgent(t, a, dir), tasks
}

const fakeSpec = `{"ociVersion":"1.2.0","root":{"path":"/r"},"process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},"linux":{"namespaces":[{"type":"mount"}]}}`

func fakeContainer(id string, s *streams) *pb.Create {
	c := &pb.Create{Id: id, What: &pb.Create_Container{Container: &pb.Container{Spec: []byte(fakeSpec)}}}
	if s != nil {
		c.Stdio = s.stdio()
	}
	return c
}

func fakeExec(id, in string) *pb.Create {
	return &pb.Create{Id: id, What: &pb.Create_Exec{Exec: &pb.Exec{Container: in, Process: &pb.Process{Args: []string{"x"}}}}}
}

func TestLifecycle(t *testing.T) {
	h, _ := newFake(t)
	s := h.listen(1, nil, pb.Stream_STREAM_STDOUT)
	c := h.begin(createReq(fakeContainer("web", s)))
	if r := c.progress(); r.GetDialing() == nil {
		t.Errorf("first message of Create = %v; want dialing", r)
	}
	if r, err := c.result(); err != nil || r.GetCreated().GetId() != "web" {
		t.Fatalf("Create() = %v, %v; want created", r, err)
	}
	wait := h.begin(waitReq("web"))
	if st := h.must(startReq("web")).GetStarted(); st.Pid != 1 {
		t.Errorf("Start() = %v; want pid 1", st)
	}
	h.must(killReq("web", 9, false))
	if r := wait.progress().GetExited(); r.GetSignal() != 9 {
		t.Errorf("progress of Wait = %v; want exited by signal 9", r)
	}
	r, err := wait.result()
	if err != nil || len(r.GetDrained().GetOutputs()) != 1 || r.GetDrained().Outputs[0].Length != 8 || !r.GetDrained().Outputs[0].Drained {
		t.Errorf("Wait() = %v, %v; want 8 drained bytes", r, err)
	}
	if out, ended := s.output(pb.Stream_STREAM_STDOUT); out != "started\n" || !ended {
		t.Errorf("stdout = %q, %v; want started, ended", out, ended)
	}
	h.must(deleteReq("web", false))
	if n := len(h.must(listReq()).GetListed().Processes); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

// TestLostConnection breaks the control connection after Create and after Start, and repeats both on another one: nothing is made or started twice.
func TestLostConnection(t *testing.T) {
	h, tasks := newFake(t)
	create, start := createReq(fakeContainer("web", nil)), startReq("web")
	first := dialAgent(t, h.addr, h.dir)
	first.begin(create)
	_ = first.mux.Close()
	h.must(create)
	second := dialAgent(t, h.addr, h.dir)
	second.begin(start)
	_ = second.mux.Close()
	pid := h.must(start).GetStarted().Pid
	if again := h.must(start).GetStarted().Pid; again != pid {
		t.Errorf("repeated Start() gives pid %d, before %d", again, pid)
	}
	if made, started := tasks.made.Load(), tasks.started.Load(); started != 1 || made != 1 {
		t.Errorf("%d made, %d started; want one, once", made, started)
	}
	if n := len(h.must(listReq()).GetListed().Processes); n != 1 {
		t.Errorf("%d processes; want 1", n)
	}
}

// TestCancelCreate closes the stream while the container is being made: nothing is left, the id is free, and a repeat makes it.
func TestCancelCreate(t *testing.T) {
	h, tasks := newFake(t)
	tasks.block = make(chan struct{})
	req := createReq(fakeContainer("web", nil))
	c := h.begin(req)
	c.progress() // dialing
	h.fails(createReq(fakeContainer("web", nil)), errdefs.ErrAlreadyExists)
	c.cancel()
	done := h.begin(req)
	done.progress() // of the second attempt: the first has been rolled back
	close(tasks.block)
	if r, err := done.result(); err != nil || r.GetCreated() == nil {
		t.Errorf("repeated Create() = %v, %v; want created", r, err)
	}
	if made := tasks.made.Load(); made != 1 {
		t.Errorf("%d containers were made; want 1", made)
	}
}

// TestJoinCreate repeats a Create that is still going on: both get its result, also when the first goes away.
func TestJoinCreate(t *testing.T) {
	h, tasks := newFake(t)
	tasks.block = make(chan struct{})
	req := createReq(fakeContainer("web", nil))
	first := h.begin(req)
	first.progress()
	second := dialAgent(t, h.addr, h.dir).begin(req)
	second.progress()
	first.cancel()
	h.must(&pb.Request{Op: &pb.Request_Ping{Ping: &pb.Ping{}}})
	close(tasks.block)
	if r, err := second.result(); err != nil || r.GetCreated() == nil {
		t.Errorf("joined Create() = %v, %v; want created", r, err)
	}
	if made := tasks.made.Load(); made != 1 {
		t.Errorf("%d containers were made; want 1", made)
	}
}

func TestCreateRefuses(t *testing.T) {
	h, _ := newFake(t)
	h.must(createReq(fakeContainer("web", nil)))
	h.must(createReq(fakeExec("sh", "web")))
	for _, tt := range []struct {
		name string
		req  *pb.Create
		kind error
	}{
		{"nothing", &pb.Create{Id: "x"}, errdefs.ErrInvalidArgument},
		{"no spec", &pb.Create{Id: "x", What: &pb.Create_Container{Container: &pb.Container{}}}, errdefs.ErrInvalidArgument},
		{"no process", &pb.Create{Id: "x", What: &pb.Create_Exec{Exec: &pb.Exec{}}}, errdefs.ErrInvalidArgument},
		{"no id", fakeContainer("", nil), errdefs.ErrInvalidArgument},
		{"bad id", fakeContainer("../x", nil), errdefs.ErrInvalidArgument},
		{"used id", fakeContainer("web", nil), errdefs.ErrAlreadyExists},
		{"unknown container", fakeExec("x", "nope"), errdefs.ErrNotFound},
		{"no container", fakeExec("x", "sh"), errdefs.ErrInvalidArgument},
		{"wait without start", &pb.Create{Id: "x", Wait: true}, errdefs.ErrInvalidArgument},
		{"runtime of an exec", &pb.Create{Id: "x", Runtime: "/bin/runc", What: fakeExec("x", "").What}, errdefs.ErrInvalidArgument},
		{"size", &pb.Create{Id: "x", Size: &pb.Size{Rows: 1 << 16}}, errdefs.ErrInvalidArgument},
		{"connect timeout", &pb.Create{Id: "x", ConnectTimeoutMs: 60_001}, errdefs.ErrInvalidArgument},
		{"short request id", &pb.Create{Id: "x", RequestId: []byte("short")}, errdefs.ErrInvalidArgument},
	} {
		if e := h.fails(createReq(tt.req), tt.kind); e.Message == "" {
			t.Errorf("%s: an error without a message: %v", tt.name, e)
		}
	}
	if n := len(h.must(listReq()).GetListed().Processes); n != 2 {
		t.Errorf("%d processes; want the 2 from before", n)
	}
}

// TestNobodyListens names the stream that could not be connected, and leaves nothing.
func TestNobodyListens(t *testing.T) {
	h, tasks := newFake(t)
	h.failsToConnect(fakeContainer("web", nil))
	if made, deleted := tasks.made.Load(), tasks.deleted.Load(); deleted != made { // it is made meanwhile
		t.Errorf("%d containers were made and %d deleted; want as many", made, deleted)
	}
	h.must(createReq(fakeContainer("web", nil)))
}

// failsToConnect creates a process for whose output nobody listens.
func (h *host) failsToConnect(c *pb.Create) {
	h.t.Helper()
	c.ConnectTimeoutMs = 50
	c.Stdio = []*pb.Stdio{{Stream: pb.Stream_STREAM_STDERR, Port: 99, Token: make([]byte, protocol.TokenSize)}}
	_, err := h.do(createReq(c))
	var se *protocol.StatusError
	if !errors.As(err, &se) || se.PB.Stream.GetStream() != pb.Stream_STREAM_STDERR {
		h.t.Fatalf("Create() = %v; want an error that names stderr", err)
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errdefs.ErrUnavailable) {
		h.t.Errorf("Create() = %v; want deadline exceeded or unavailable", err)
	}
}

func TestOperationsOnNothing(t *testing.T) {
	h, _ := newFake(t)
	for _, req := range []*pb.Request{
		startReq("web"), waitReq("web"), killReq("web", 9, false), deleteReq("web", true),
		{Op: &pb.Request_Resize{Resize: &pb.Resize{Id: "web", Size: &pb.Size{}}}},
		{Op: &pb.Request_CloseStdin{CloseStdin: &pb.CloseStdin{Id: "web"}}},
		{Op: &pb.Request_Attach{Attach: &pb.Attach{Id: "web"}}},
		{Op: &pb.Request_Detach{Detach: &pb.Detach{Id: "web"}}},
	} {
		h.fails(req, errdefs.ErrNotFound)
	}
	for _, req := range []*pb.Request{
		killReq("web", 0, false), killReq("web", 65, false), startReq("../web"), waitReq("a\x00b"), deleteReq("", true),
		{Op: &pb.Request_Resize{Resize: &pb.Resize{Id: "web"}}},
		{Op: &pb.Request_Start{Start: &pb.Start{Id: "web"}}},
		{Op: &pb.Request_Shutdown{Shutdown: &pb.Shutdown{Mode: 7}}},
	} {
		h.fails(req, errdefs.ErrInvalidArgument)
	}
	h.fails(&pb.Request{}, errdefs.ErrNotImplemented)
}

func TestInfo(t *testing.T) {
	h, _ := newFake(t)
	info := h.must(&pb.Request{Op: &pb.Request_Info{Info: &pb.Info{}}}).GetInfo()
	tl := info.Timeline
	if info.Software != "bellhopd test" || info.MemoryBytes == 0 || info.Cpus == 0 || info.AgentPid != uint32(os.Getpid()) || !info.Pid1 || info.KernelRelease == "" {
		t.Errorf("Info() = %v", info)
	}
	if tl.Init != 1 || tl.Main != 2 || tl.Listen != 3 || tl.Hello == 0 || tl.Now < tl.Hello {
		t.Errorf("timeline = %v", tl)
	}
}

func TestWatch(t *testing.T) {
	h, _ := newFake(t)
	w := h.begin(&pb.Request{Op: &pb.Request_Watch{Watch: &pb.Watch{}}})
	if e := w.progress().GetEvent(); e.GetSynced() == nil {
		t.Fatalf("first event = %v; want synced", e)
	}
	h.must(createReq(fakeContainer("web", nil)))
	h.must(startReq("web"))
	h.must(deleteReq("web", true))
	var states []pb.State
	for {
		e := w.progress().GetEvent()
		if p := e.GetProcess(); p != nil {
			states = append(states, p.State)
		}
		if e.GetDeleted() != nil {
			break
		}
	}
	want := []pb.State{pb.State_STATE_CREATED, pb.State_STATE_RUNNING, pb.State_STATE_EXITED}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("states = %v; want %v", states, want)
	}
	w.cancel()
}

func TestShutdown(t *testing.T) {
	for mode, want := range map[pb.ShutdownMode]error{
		pb.ShutdownMode_SHUTDOWN_MODE_POWER_OFF: ErrPowerOff, pb.ShutdownMode_SHUTDOWN_MODE_REBOOT: ErrReboot,
	} {
		dir := t.TempDir()
		a := newAgent(Config{Dial: dialPort(dir), Logger: slog.New(slog.DiscardHandler)}, new(fakeTasks), new(container.Profiles))
		l, err := net.Listen("unix", filepath.Join(dir, "control"))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- a.Serve(t.Context(), l) }()
		h := dialAgent(t, l.Addr().String(), dir)
		h.must(&pb.Request{Op: &pb.Request_Shutdown{Shutdown: &pb.Shutdown{Mode: mode}}})
		if err := <-done; !errors.Is(err, want) {
			t.Errorf("Serve() = %v; want %v", err, want)
		}
		if err := a.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
}

// TestManyCallers drives whole lives of processes side by side over one connection.
func TestManyCallers(t *testing.T) {
	h, tasks := newFake(t)
	const callers, rounds = 32, 10
	var work sync.WaitGroup
	for i := range callers {
		work.Go(func() {
			for range rounds {
				c := fakeContainer(fmt.Sprint("p", i), nil)
				c.Start = true
				for _, req := range []*pb.Request{createReq(c), killReq(c.Id, 9, false), waitReq(c.Id), deleteReq(c.Id, false)} {
					if _, err := h.do(req); err != nil {
						t.Errorf("%T of %s = %v", req.Op, c.Id, err)
						return
					}
				}
			}
		})
	}
	work.Wait()
	if n := tasks.started.Load(); n != callers*rounds {
		t.Errorf("%d processes started; want %d", n, callers*rounds)
	}
	if n := len(h.must(listReq()).GetListed().Processes); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}
