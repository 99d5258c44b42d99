package vmtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// testLifecycle takes a process through its whole life, one step at a time.
func testLifecycle(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		hook, deleted := counter()
		var stdout, stderr bytes.Buffer
		cfg := g.script(where, "echo out; echo complaint >&2; exit 7")
		cfg.Stdout, cfg.Stderr, cfg.OnDelete = &stdout, &stderr, hook
		p := g.process(t, cfg)
		if err := p.Start(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Start() before Create() = %v; want errdefs.ErrFailedPrecondition", err)
		}
		if err := p.Create(ctx); err != nil {
			t.Fatalf("Create() = %v; want no error", err)
		}
		if info, ok := g.info(t, p.ID()); !ok || info.State != hostclient.StateCreated || p.Pid() != -1 || info.IsContainer != (where == first) {
			t.Errorf("after Create(): %+v, listed %v, pid %d; want a created process with pid -1", info, ok, p.Pid())
		}
		if err := p.Start(ctx); err != nil || p.Pid() < 2 {
			t.Fatalf("Start() = %v, pid %d; want no error and a pid", err, p.Pid())
		}
		if err := p.Start(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("second Start() = %v; want errdefs.ErrFailedPrecondition", err)
		}
		status, err := p.Wait(ctx)
		if err != nil || status.Code != 7 || status.Signal != 0 || status.StartedAt.IsZero() || status.ExitedAt.Before(status.StartedAt) {
			t.Errorf("Wait() = %+v, %v; want code 7, and the exit behind the start", status, err)
		}
		if stdout.String() != "out\n" || stderr.String() != "complaint\n" {
			t.Errorf("stdout %q, stderr %q; want what was written to each", stdout.String(), stderr.String())
		}
		checkLengths(t, status, map[hostclient.Stream]int{hostclient.Stdout: stdout.Len(), hostclient.Stderr: stderr.Len()})
		if info, ok := g.info(t, p.ID()); !ok || info.State != hostclient.StateExited || info.Exit.Code != 7 {
			t.Errorf("after the exit: %+v, listed %v; want it kept, with code 7", info, ok)
		}
		if err := p.Delete(ctx); err != nil || deleted() != 1 {
			t.Errorf("Delete() = %v, hook called %d times; want no error, and once", err, deleted())
		}
		if info, ok := g.info(t, p.ID()); ok {
			t.Errorf("after Delete(): %+v; want it gone", info)
		}
	})
}

// checkLengths compares the final lengths of the outputs.
func checkLengths(t *testing.T, status hostclient.ExitStatus, want map[hostclient.Stream]int) {
	t.Helper()
	if len(status.Outputs) != len(want) {
		t.Errorf("outputs = %+v; want %d", status.Outputs, len(want))
	}
	for _, o := range status.Outputs {
		if !o.Drained || o.Length != uint64(want[o.Stream]) {
			t.Errorf("output = %+v; want it drained at %d", o, want[o.Stream])
		}
	}
}

// testLaunch creates and starts in one round trip.
func testLaunch(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		var out bytes.Buffer
		cfg := g.script(where, "cat; exit 3")
		cfg.Stdin, cfg.Stdout = strings.NewReader("through"), &out
		p := g.start(t, cfg)
		if p.Pid() < 2 {
			t.Errorf("Pid() = %d; want one", p.Pid())
		}
		if status, err := p.Wait(deadline(t)); err != nil || status.Code != 3 || out.String() != "through" {
			t.Errorf("Wait() = %+v, %v, output %q; want code 3 and the input", status, err, out.String())
		}
	})
}

// testStartErrors has starts fail in every way, on a terminal and off it: each says why, soon, and leaves nothing.
func testStartErrors(t *testing.T, g *guest) {
	notFound, denied, invalid := errdefs.ErrNotFound, errdefs.ErrPermissionDenied, errdefs.ErrInvalidArgument
	failures := []struct {
		name string
		set  func(*specs.Process)
		want error
		text string // in the error, behind "start process ID: " or "create process ID: "
	}{
		{"missing program", func(p *specs.Process) { p.Args = []string{"/bin/nope"} }, notFound, "exec /bin/nope: not found"},
		{"missing in PATH", func(p *specs.Process) { p.Args = []string{"nope"} }, notFound, "exec nope: not found"},
		{"not executable", func(p *specs.Process) { p.Args = []string{"/etc/passwd"} }, denied, "exec /etc/passwd: permission denied"},
		{"a directory", func(p *specs.Process) { p.Args = []string{"/proc"} }, denied, "exec /proc: "},
		{"no such user", func(p *specs.Process) { p.User = specs.User{Username: "nobody-here"} }, invalid, "user nobody-here"},
		{"cwd is a file", func(p *specs.Process) { p.Cwd = "/etc/passwd" }, invalid, "/etc/passwd"},
		{"cwd is relative", func(p *specs.Process) { p.Cwd = "x" }, invalid, ""},
		{"env without =", func(p *specs.Process) { p.Env = []string{"nope"} }, invalid, ""},
		{"env with NUL", func(p *specs.Process) { p.Env = []string{"a=b\x00c"} }, invalid, ""},
		{"unknown rlimit", func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, invalid, ""},
	}
	inEveryPlace(t, func(t *testing.T, where place) {
		for _, tt := range failures {
			for _, terminal := range []bool{false, true} {
				cfg := g.script(where, "true")
				process := ociProcess(&cfg)
				tt.set(process)
				process.Terminal = terminal
				if where == outside && process.Args[0] == "/etc/passwd" || where == outside && process.Cwd == "/etc/passwd" {
					continue // the guest's own root has no such file
				}
				cfg.Stdin, cfg.Stdout = strings.NewReader("unread"), io.Discard
				p := g.process(t, cfg)
				err := p.Launch(deadline(t))
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), p.ID()+": ") || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("%s, terminal %v: Launch() = %v; want %v with %q", tt.name, terminal, err, tt.want, tt.text)
				}
				if _, ok := g.info(t, p.ID()); ok {
					t.Errorf("%s, terminal %v: the process is listed; want nothing left", tt.name, terminal)
				}
				if err := p.Delete(deadline(t)); err != nil {
					t.Errorf("%s, terminal %v: Delete() = %v; want no error", tt.name, terminal, err)
				}
			}
		}
	})
}

// testFailedStartReleasesWaiters has others wait for a process whose start fails.
func testFailedStartReleasesWaiters(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		cfg := g.script(where, "true")
		ociProcess(&cfg).Args = []string{"/bin/nope"}
		p := g.process(t, cfg)
		if err := p.Create(ctx); err != nil {
			if where == first && errors.Is(err, errdefs.ErrNotFound) {
				return // libcontainer looks the program up when it creates
			}
			t.Fatalf("Create() = %v; want no error", err)
		}
		stranger, err := g.otherClient(t).Attach(ctx, p.ID(), nil)
		if err != nil {
			t.Fatalf("Attach(…) = %v; want no error", err)
		}
		waits := make(chan error, 2)
		for _, waiter := range []*hostclient.Process{p, stranger} {
			go func() {
				_, err := waiter.Wait(ctx)
				waits <- err
			}()
		}
		if err := p.Start(ctx); !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "start process "+p.ID()+": exec /bin/nope: not found") {
			t.Errorf("Start() = %v; want that /bin/nope is not found", err)
		}
		for range 2 {
			if err := <-waits; !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("Wait() of a process whose start failed = %v; want errdefs.ErrNotFound", err)
			}
		}
		if _, err := p.Wait(ctx); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Wait() after the failed start = %v; want errdefs.ErrNotFound", err)
		}
	})
}

// testFailedListen has a host that cannot listen: nothing is created, and Delete gives everything back.
func testFailedListen(t *testing.T, g *guest) {
	ctx := deadline(t)
	refused := errors.New("no listening today")
	transport := hostclient.TransportFuncs{
		DialFunc:   g.Machine.Dial,
		ListenFunc: func(uint32) (net.Listener, error) { return nil, refused },
	}
	c, err := hostclient.Connect(ctx, transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hook, deleted := counter()
	cfg := g.script(outside, "true")
	cfg.Stdout, cfg.OnDelete = io.Discard, hook
	p, err := c.NewProcess(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Launch(ctx); !errors.Is(err, refused) {
		t.Errorf("Launch() = %v; want the listener's error", err)
	}
	if _, ok := g.info(t, p.ID()); ok {
		t.Error("the process is listed; want nothing created")
	}
	if err := p.Delete(ctx); err != nil || deleted() != 1 {
		t.Errorf("Delete() = %v, hook called %d times; want no error, and once", err, deleted())
	}
}

// testConversation talks with a process in the shape of os/exec.
func testConversation(t *testing.T, g *guest) {
	ctx := deadline(t)
	for _, cmd := range []*hostclient.Cmd{
		g.Client.Command(ctx, vmtest.Rootfs+"/bin/cat"),
		g.Client.Container(g.base).Command(ctx, "cat"),
		g.Client.NewContainer("", hostclient.DefaultSpec(vmtest.Rootfs, "/bin/cat")).Init(ctx),
	} {
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatalf("Start() of %v = %v; want no error", cmd, err)
		}
		for _, line := range []string{"one\n", "two\n"} {
			_, _ = io.WriteString(in, line)
			got := make([]byte, len(line))
			if _, err := io.ReadFull(out, got); err != nil || string(got) != line {
				t.Errorf("%v said %q, %v; want %q", cmd, got, err, line)
			}
		}
		_ = in.Close()
		if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
			t.Errorf("the rest is %q, %v; want the end of the file", rest, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("Wait() = %v; want no error", err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := g.Client.Command(ended, vmtest.Rootfs+"/bin/true").Run(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run() with an ended context = %v; want context.Canceled", err)
	}
}

// testManyAtOnce has processes exit at once, before anybody can have asked for them, in all places side by side.
func testManyAtOnce(t *testing.T, g *guest) {
	const each = 15
	errs := make(chan error, 3*each)
	for _, where := range everyPlace() {
		for i := range each {
			go func() { errs <- runWithCode(deadline(t), g, where, i) }()
		}
	}
	for range 3 * each {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// runWithCode runs a process that exits with a code, and checks it.
func runWithCode(ctx context.Context, g *guest, where place, code int) error {
	var out bytes.Buffer
	cfg := g.script(where, fmt.Sprint("cat; exit ", code))
	cfg.Stdin, cfg.Stdout, cfg.Stderr = strings.NewReader(fmt.Sprint(code)), &out, io.Discard
	cfg.ConnectTimeout = time.Minute // three connections each, on a busy host
	p, err := g.Client.NewProcess(cfg)
	if err != nil {
		return err
	}
	if err := p.Launch(ctx); err != nil {
		return err
	}
	status, err := p.Wait(ctx)
	if err != nil || status.Code != code || out.String() != fmt.Sprint(code) {
		return fmt.Errorf("%v: Wait() = %+v, %v, output %q; want code %d, and it as output", where, status, err, out.String(), code)
	}
	return p.Delete(ctx)
}
