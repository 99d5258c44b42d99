package hostclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/yamux"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestOperations(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	c := connect(t, g, nil)
	ctx := t.Context()
	tests := []struct {
		name string
		call func() error
	}{
		{"Ping", func() error { return c.Ping(ctx) }},
		{"Mount", func() error { return c.Mount(ctx, Mount{Source: "tmpfs", Target: "/mnt", Type: "tmpfs"}) }},
		{"Unmount", func() error { return c.Unmount(ctx, "/mnt") }},
		{"Shutdown", func() error { return c.Shutdown(ctx) }},
		{"Reboot", func() error { return c.Reboot(ctx) }},
	}
	for _, tt := range tests {
		if err := tt.call(); err != nil {
			t.Errorf("%s() = %v; want no error", tt.name, err)
		}
	}
	if info, err := c.Info(ctx); err != nil || info.CPUs != 2 {
		t.Errorf("Info() = %v, %v; want 2 CPUs", info, err)
	}
	if list, err := c.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("List() = %v, %v; want none", list, err)
	}
}

func TestRootfs(t *testing.T) {
	checkLeaks(t)
	var sent *pb.PrepareRootfs
	g := newFakeGuest(t)
	g.table.script = func(c *fakeCall) bool {
		if p := c.req.GetPrepareRootfs(); p != nil {
			sent = p
		}
		return false
	}
	c := connect(t, g, nil)
	ctx := t.Context()
	r, err := c.PrepareRootfs(ctx, Rootfs{
		ID: "web", Layers: []FileSystem{{Source: "/base"}, {Source: "/dev/vda", Type: "erofs", Options: []string{"nodev"}}},
		Upper: &Upper{Disk: &FileSystem{Source: "/up"}, Limit: 4096},
	})
	if err != nil || r.ID != "web" || r.Path != "/rootfs/web" {
		t.Fatalf("PrepareRootfs() = %+v, %v; want it at /rootfs/web", r, err)
	}
	want := &pb.PrepareRootfs{
		RequestId: sent.RequestId, Id: "web", Layers: []*pb.FileSystem{{Source: "/base"}, {Source: "/dev/vda", Type: "erofs", Options: []string{"nodev"}}},
		Upper: &pb.Upper{Disk: &pb.FileSystem{Source: "/up"}, Limit: 4096},
	}
	if !sent.EqualVT(want) || len(sent.RequestId) != 16 {
		t.Errorf("the request was %v; want %v", sent, want)
	}
	if list, err := c.ListRootfs(ctx); err != nil || len(list) != 2 || list[0].Path != "/rootfs/a" || list[0].Containers != 2 || list[1].ID != "b" {
		t.Errorf("ListRootfs() = %+v, %v; want a with two containers and b, which come in two parts", list, err)
	}
	if err := r.Remove(ctx); err != nil || g.table.times("remove web") != 1 {
		t.Errorf("Remove() = %v, done %d times; want no error, and once", err, g.table.times("remove web"))
	}
	if r, err := c.PrepareRootfs(ctx, Rootfs{Whole: &FileSystem{Source: "/base"}}); err != nil || r.ID == "" {
		t.Errorf("PrepareRootfs() without an id = %+v, %v; want one made up", r, err)
	}
	if _, err := c.PrepareRootfs(ctx, Rootfs{Upper: &Upper{Limit: -1}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("PrepareRootfs() with a negative limit = %v; want errdefs.ErrInvalidArgument", err)
	}
}

func TestNetworkFiles(t *testing.T) {
	files := NetworkFiles("web", netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00::3"))
	got := make(map[string]string)
	for _, f := range files {
		got[f.Path] = string(f.Content)
	}
	want := map[string]string{
		"/etc/hostname":    "web\n",
		"/etc/hosts":       "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tweb\n",
		"/etc/resolv.conf": "nameserver 10.0.2.3\nnameserver fd00::3\n",
	}
	if !maps.Equal(got, want) {
		t.Errorf("NetworkFiles() = %q; want %q", got, want)
	}
	if files := NetworkFiles("web"); len(files) != 2 {
		t.Errorf("NetworkFiles() without name servers = %+v; want no resolv.conf", files)
	}
}

func TestErrorsOfTheGuest(t *testing.T) {
	checkLeaks(t)
	tests := []struct {
		steps []string
		want  string
	}{
		{nil, "cannot unmount /x: it is not there"},
		{[]string{"unmount", "look up /x"}, "unmount: look up /x: it is not there"},
	}
	g := newFakeGuest(t)
	var steps []string
	g.handler = func(c *fakeCall) { c.fail(pb.Code_CODE_NOT_FOUND, "it is not there", steps...) }
	c := connect(t, g, nil)
	for _, tt := range tests {
		steps = tt.steps
		err := c.Unmount(t.Context(), "/x")
		if !errors.Is(err, errdefs.ErrNotFound) || err.Error() != tt.want {
			t.Errorf("Unmount(/x) = %q; want %q", err, tt.want)
		}
		if errors.As(err, new(*protocol.StatusError)) == false {
			t.Errorf("Unmount(/x) = %T; want a *protocol.StatusError in the chain", err)
		}
	}
}

func TestCancel(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	canceled := make(chan struct{}, 1)
	g.handler = func(c *fakeCall) {
		if c.req.GetPing() != nil {
			c.result(pong())
			return
		}
		<-c.ctx.Done()
		canceled <- struct{}{}
	}
	c := connect(t, g, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Info() of a guest that doesn't answer = %v; want the context's error", err)
	}
	<-canceled
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping() after a cancelled call = %v; want no error", err)
	}
	if dials, _ := g.count(); dials != 1 {
		t.Errorf("the client dialled %d times; want 1: a cancelled call must not cost the connection", dials)
	}
}

// A guest that does not even read must not keep a call beyond its context.
func TestCancelWhileTheGuestReadsNothing(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	release := make(chan struct{})
	g.after = func(conn net.Conn) error { <-release; return nil }
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// Connect itself blocks here, as GoAway is not taken.
	if _, err := Connect(ctx, g, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Connect(…) = %v; want the context's error", err)
	}
}

func TestManyCallers(t *testing.T) {
	checkLeaks(t)
	for _, limit := range []uint32{0, protocol.MinStreams} {
		t.Run(fmt.Sprint("streams ", limit), func(t *testing.T) {
			g := newFakeGuest(t)
			g.limits = &pb.Limits{MaxStreams: limit}
			var now, most atomic.Int64
			g.handler = func(c *fakeCall) {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				now.Add(-1)
				c.result(pong())
			}
			c := connect(t, g, nil)
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for range 50 {
						if err := c.Ping(t.Context()); err != nil {
							t.Errorf("Ping() = %v; want no error", err)
						}
					}
				})
			}
			wg.Wait()
			dials, streams := g.count()
			if want := 64; limit == 0 && streams > want || limit != 0 && streams > int(limit) {
				t.Errorf("%d streams were opened; want at most %d, kept and reused", streams, want)
			}
			if dials != 1 {
				t.Errorf("the client dialled %d times; want 1", dials)
			}
			t.Logf("%d streams, at most %d operations at once", streams, most.Load())
		})
	}
}

// The connection breaks at every point around an operation: nothing may be done twice, or lost.
func TestLostAnswers(t *testing.T) {
	ctx := t.Context()
	newWeb := func(c *Client) *Process {
		p, err := c.NewProcess(ProcessConfig{ID: "web", Process: &specs.Process{Args: []string{"x"}, Cwd: "/"}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	createAnd := func(c *Client, do func(*Process) error) error {
		p := newWeb(c)
		if err := p.Create(ctx); err != nil {
			return err
		}
		return do(p)
	}
	tests := []struct {
		what   string // of fakeTable
		op     func(*pb.Request) bool
		call   func(*Client) error
		repeat bool
	}{
		{
			"create web", func(r *pb.Request) bool { return r.GetCreate() != nil },
			func(c *Client) error { return newWeb(c).Create(ctx) }, true,
		},
		{
			"start web", func(r *pb.Request) bool { return r.GetCreate() != nil },
			func(c *Client) error { return newWeb(c).Launch(ctx) }, true,
		},
		{
			"start web", func(r *pb.Request) bool { return r.GetStart() != nil },
			func(c *Client) error { return createAnd(c, func(p *Process) error { return p.Start(ctx) }) }, true,
		},
		{
			"kill web", func(r *pb.Request) bool { return r.GetKill() != nil },
			func(c *Client) error { return createAnd(c, func(p *Process) error { return p.Kill(ctx, SIGTERM) }) }, true,
		},
		{
			"delete web", func(r *pb.Request) bool { return r.GetDelete() != nil },
			func(c *Client) error { return createAnd(c, func(p *Process) error { return p.Delete(ctx) }) }, true,
		},
		{
			"mount /mnt", func(r *pb.Request) bool { return r.GetMount() != nil },
			func(c *Client) error { return c.Mount(ctx, Mount{Target: "/mnt"}) }, false,
		},
	}
	for _, tt := range tests {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/done %v", tt.what, after), func(t *testing.T) {
				checkLeaks(t)
				g := newFakeGuest(t)
				var cuts atomic.Int32
				g.table.script = func(c *fakeCall) bool {
					if !tt.op(c.req) || cuts.Add(1) > 3 {
						return false
					}
					if after {
						quiet := *c
						quiet.st = unansweredStream(t)
						quiet.ctx = endedContext()
						g.table.script = nil
						g.table.serve(&quiet)
					}
					c.cut()
					return true
				}
				c := connect(t, g, nil)
				err := tt.call(c)
				want := 1
				if !tt.repeat && !after {
					want = 0
				}
				if n := g.table.times(tt.what); n != want {
					t.Errorf("%q was done %d times; want %d", tt.what, n, want)
				}
				if tt.repeat && err != nil {
					t.Errorf("the call returned %v; want no error, as it may be repeated", err)
				}
				if !tt.repeat && !errors.Is(err, errdefs.ErrUnavailable) {
					t.Errorf("the call returned %v; want errdefs.ErrUnavailable, as it may not be repeated", err)
				}
			})
		}
	}
}

// unansweredStream gives a stream whose writes go nowhere.
func unansweredStream(t *testing.T) *yamux.Stream {
	host, guest := net.Pipe()
	t.Cleanup(func() { host.Close(); guest.Close() })
	go io.Copy(io.Discard, guest)
	mux, err := yamux.Client(host, fakeMuxConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mux.Close() })
	st, err := mux.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func endedContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestGuestRestarted(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	c := connect(t, g, nil)
	deleted := 0
	p, err := c.NewProcess(ProcessConfig{
		ID: "web", Process: &specs.Process{Args: []string{"x"}, Cwd: "/"}, OnDelete: func() { deleted++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.restart()
	if _, err := p.Wait(t.Context()); !errors.Is(err, ErrGuestRestarted) || !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("Wait() = %v; want ErrGuestRestarted", err)
	}
	if err := p.Kill(t.Context(), SIGTERM); !errors.Is(err, ErrGuestRestarted) {
		t.Errorf("Kill() = %v; want ErrGuestRestarted", err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v; want no error", err)
	}
	if err := p.Delete(t.Context()); err != nil || deleted != 1 {
		t.Errorf("Delete() = %v, and OnDelete ran %d times; want no error, and once", err, deleted)
	}
}

// These two run on the real clock: yamux keeps its timers in a pool of the process, which synctest does not allow.

func TestGuestIsLost(t *testing.T) {
	checkLeaks(t)
	const timeout = 300 * time.Millisecond
	g := newFakeGuest(t)
	c := connect(t, g, &Config{ReconnectTimeout: timeout})
	g.mu.Lock()
	g.refuse = 1 << 30
	g.mu.Unlock()
	start := time.Now()
	g.hangUp()
	err := c.Ping(context.Background())
	if !errors.Is(err, errdefs.ErrUnavailable) || time.Since(start) < timeout {
		t.Errorf("Ping() = %v after %v; want errdefs.ErrUnavailable after %v", err, time.Since(start), timeout)
	}
	<-c.Done()
	if err := c.Err(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Err() = %v; want why the guest is lost, and no context's error", err)
	}
	t.Log(c.Err())
}

// A guest that says hello and hangs up is lost too, after the same time, and costs no busy loop.
func TestGuestHangsUpAgainAndAgain(t *testing.T) {
	checkLeaks(t)
	const timeout = time.Second
	g := newFakeGuest(t)
	var moody atomic.Bool
	g.onSession = func(mux *yamux.Session) {
		if moody.Load() {
			mux.Close()
		}
	}
	c := connect(t, g, &Config{ReconnectTimeout: timeout})
	moody.Store(true)
	start := time.Now()
	g.hangUp()
	<-c.Done()
	if d := time.Since(start); d < timeout {
		t.Errorf("the client gave up after %v; want %v", d, timeout)
	}
	if dials, _ := g.count(); dials > 100 {
		t.Errorf("the client dialled %d times in %v; want at most 100", dials, timeout)
	}
}

func TestLiveness(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	var deaf atomic.Bool
	g.handler = func(c *fakeCall) {
		if !deaf.Load() {
			c.result(pong())
		}
	}
	c := connect(t, g, &Config{PingInterval: time.Millisecond, PingTimeout: 20 * time.Millisecond})

	c.Pause()
	deaf.Store(true)
	if _, err := c.Info(timeout(t, 200*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Info() = %v; want the context's error", err)
	}
	if dials, _ := g.count(); dials != 1 {
		t.Errorf("the client dialled %d times during a pause; want 1: silence means nothing then", dials)
	}
	c.Resume()
	eventually(t, "given up a deaf guest", func() bool {
		dials, _ := g.count()
		return dials > 1
	})
	deaf.Store(false)
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v; want no error", err)
	}
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Nor may one that stops reading later: its requests pile up in the connection, and the calls end with their contexts.
func TestCancelWhileTheConnectionIsFull(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.stream = true
	release := make(chan struct{})
	defer close(release)
	g.after = func(conn net.Conn) error { <-release; return nil }
	c := connect(t, g, nil)
	start := time.Now()
	for range 8 {
		err := c.Mount(timeout(t, 20*time.Millisecond), Mount{Source: strings.Repeat("x", 200<<10), Target: "/x"})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Mount(…) = %v; want the context's error", err)
		}
	}
	if d := time.Since(start); d > writeTimeout/2 {
		t.Errorf("8 calls with 20 ms each took %v; want them to end with their contexts", d)
	}
}
