//go:build linux

package hostclient_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// vmTimeout bounds what is waited for in the machine, without KVM on a busy host.
const vmTimeout = 2 * time.Minute

const busybox = vmtest.Rootfs + "/bin/busybox"

func vmContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), vmTimeout)
	t.Cleanup(cancel)
	return ctx
}

// TestInVM drives a real agent in one machine, which all of it shares.
func TestInVM(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	vm := vmtest.Start(t, vmtest.Busybox())
	for _, tt := range []struct {
		name string
		test func(*testing.T, *vmtest.VM)
	}{
		{"Info", testInfo},
		{"ExitCodes", testExitCodes},
		{"StartErrors", testStartErrors},
		{"Stdin", testStdin},
		{"StdinIsClosedByTheProcess", testHead},
		{"CloseStdin", testCloseStdin},
		{"Container", testContainer},
		{"ContainerLifecycle", testContainerLifecycle},
		{"ForceDeletedExec", testForceDelete},
		{"OutputHeldOpen", testHeldOutput},
		{"Terminal", testTerminal},
		{"Cancel", testCancelledCommand},
		{"AttachFromNewClient", testNewClient},
		{"TakeOver", testTakeOver},
		{"Reset", testReset},
		{"Pause", testPause},
		{"ManyProcesses", testManyProcesses},
		{"NothingIsLeft", testNothingLeft},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, vm) })
	}
}

func testInfo(t *testing.T, vm *vmtest.VM) {
	info, err := vm.Client.Info(vmContext(t))
	if err != nil || !info.PID1 || info.KernelRelease == "" || info.Timeline.Hello < info.Timeline.Main {
		t.Errorf("Info() = %+v, %v; want PID 1, a kernel, and a hello behind main", info, err)
	}
	if out, err := vm.Client.Command(vmContext(t), busybox, "uname", "-r").Output(); err != nil || strings.TrimSpace(string(out)) != info.KernelRelease {
		t.Errorf("uname -r = %q, %v; want %q", out, err, info.KernelRelease)
	}
}

func testExitCodes(t *testing.T, vm *vmtest.VM) {
	tests := []struct {
		script string
		code   int
		text   string
	}{
		{"exit 0", 0, "<nil>"},
		{"exit 42", 42, "exit status 42"},
		{"kill -TERM $$", 143, "signal: SIGTERM"},
		{"kill -KILL $$", 137, "signal: SIGKILL"},
	}
	for _, tt := range tests {
		err := vm.Client.Command(vmContext(t), busybox, "sh", "-c", tt.script).Run()
		if got := hostclient.ShellCode(err); got != tt.code || fmt.Sprint(err) != tt.text {
			t.Errorf("%q: %v, code %d; want %s, code %d", tt.script, err, got, tt.text, tt.code)
		}
	}
}

// A process that cannot be started is an error with its reason, whatever its streams, and leaves nothing.
func testStartErrors(t *testing.T, vm *vmtest.VM) {
	tests := []struct {
		name string
		cmd  func(*hostclient.Cmd)
		want error
		code int
	}{
		{"missing program", func(c *hostclient.Cmd) { c.Args[0] = "/bin/nope" }, errdefs.ErrNotFound, 127},
		{"missing program in PATH", func(c *hostclient.Cmd) { c.Args[0] = "nope" }, errdefs.ErrNotFound, 127},
		{"missing program on a terminal", func(c *hostclient.Cmd) { c.Args[0], c.Terminal = "/bin/nope", true }, errdefs.ErrNotFound, 127},
		{"not executable", func(c *hostclient.Cmd) { c.Args[0] = vmtest.Rootfs + "/etc/passwd" }, errdefs.ErrPermissionDenied, 126},
		{"directory as program", func(c *hostclient.Cmd) { c.Args[0] = "/proc" }, errdefs.ErrPermissionDenied, 126},
		{"no such container", func(c *hostclient.Cmd) { c.Container = "nope" }, errdefs.ErrNotFound, 125},
		{"no such user", func(c *hostclient.Cmd) { c.User = &specs.User{Username: "nope"} }, nil, 0},
		{"cwd that is a file", func(c *hostclient.Cmd) { c.Dir = "/proc/version" }, nil, 0},
		{"relative cwd", func(c *hostclient.Cmd) { c.Dir = "x" }, errdefs.ErrInvalidArgument, 125},
		{"env without =", func(c *hostclient.Cmd) { c.Env = []string{"nope"} }, errdefs.ErrInvalidArgument, 125},
	}
	for _, tt := range tests {
		cmd := vm.Client.Command(vmContext(t), busybox, "true")
		tt.cmd(cmd)
		cmd.Stdout = io.Discard
		err := cmd.Run()
		if err == nil || errors.As(err, new(*hostclient.ExitError)) || tt.want != nil && (!errors.Is(err, tt.want) || hostclient.ShellCode(err) != tt.code) {
			t.Errorf("%s: Run() = %v, code %d; want %v, code %d", tt.name, err, hostclient.ShellCode(err), tt.want, tt.code)
		}
		t.Logf("%s: %v", tt.name, err)
	}
}

// Megabytes through the process and back, and as a checksum, with the end in band.
func testStdin(t *testing.T, vm *vmtest.VM) {
	data := make([]byte, 8<<20+3)
	_, _ = rand.Read(data)
	sum := fmt.Sprintf("%x", sha256.Sum256(data))

	cmd := vm.Client.Command(vmContext(t), busybox, "sha256sum")
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), sum) {
		t.Errorf("sha256sum = %q, %v; want %s", out, err, sum)
	}
	cmd = vm.Client.Command(vmContext(t), busybox, "cat")
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.Output(); err != nil || fmt.Sprintf("%x", sha256.Sum256(out)) != sum {
		t.Errorf("cat gave %d bytes, %v; want the same %d", len(out), err, len(data))
	}
}

// endless is a Reader that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '\n'
	}
	return len(b), nil
}

func testHead(t *testing.T, vm *vmtest.VM) {
	cmd := vm.Client.Command(vmContext(t), busybox, "head", "-n1")
	cmd.Stdin = endless{}
	if out, err := cmd.Output(); err != nil || string(out) != "\n" {
		t.Errorf("head -n1 of an endless input = %q, %v; want one line", out, err)
	}
}

func testCloseStdin(t *testing.T, vm *vmtest.VM) {
	reader, writer := io.Pipe()
	defer writer.Close()
	var out bytes.Buffer
	cmd := vm.Client.Command(vmContext(t), busybox, "cat")
	cmd.Stdin, cmd.Stdout = reader, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(writer, "kept")
	io.WriteString(writer, "") // taken by the Read behind: what was given before is kept
	if err := cmd.Process.CloseStdin(vmContext(t)); err != nil {
		t.Errorf("CloseStdin() = %v; want no error", err)
	}
	if err := cmd.Wait(); err != nil || out.String() != "kept" {
		t.Errorf("Wait() = %v, output %q; want what was written before", err, out.String())
	}
}

func testContainer(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	spec := hostclient.DefaultSpec(vmtest.Rootfs, "/bin/sh", "-c", "hostname; id -u; echo $$; cat >&2; exit 3")
	cmd := vm.Client.NewContainer("", spec).Init(ctx)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("complaint"), &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*hostclient.ExitError](err); !ok || exit.Code != 3 || stdout.String() != "bellhop\n0\n1\n" || stderr.String() != "complaint" {
		t.Errorf("the container: %v, stdout %q, stderr %q; want exit status 3", err, stdout.String(), stderr.String())
	}
	spec.Process.Args = []string{"/bin/nope"}
	if err := vm.Client.NewContainer("", spec).Init(ctx).Run(); hostclient.ShellCode(err) != 127 {
		t.Errorf("a missing program in a container: %v; want code 127", err)
	}
}

func testContainerLifecycle(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	deleted := 0
	p, err := vm.Client.NewProcess(hostclient.ProcessConfig{
		ID: "web", Spec: hostclient.DefaultSpec(vmtest.Rootfs, "/bin/sleep", "1000"), OnDelete: func() { deleted++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Create(ctx); err != nil {
		t.Fatalf("Create() = %v; want no error", err)
	}
	if err := p.Start(ctx); err != nil || p.Pid() < 2 {
		t.Fatalf("Start() = %v, pid %d; want no error and a pid", err, p.Pid())
	}
	web := vm.Client.Container("web")
	if out, err := web.Command(ctx, "ps").Output(); err != nil || !strings.Contains(string(out), "sleep 1000") {
		t.Errorf("ps in the container = %q, %v; want the first process in it", out, err)
	}
	if out, err := web.Command(ctx, "grep", "CapBnd", "/proc/self/status").Output(); err != nil || !strings.Contains(string(out), "00000000a80425fb") {
		t.Errorf("capabilities of a process in the container: %q, %v; want Docker's, a80425fb", out, err)
	}
	if err := p.Delete(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Delete() of a running container = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := web.Kill(ctx, hostclient.SIGKILL); err != nil {
		t.Errorf("Kill() = %v; want no error", err)
	}
	st, err := p.Wait(ctx)
	if err != nil || st.Signal != hostclient.SIGKILL || st.OOMKilled || st.StartedAt.IsZero() || st.ExitedAt.Before(st.StartedAt) {
		t.Errorf("Wait() = %+v, %v; want SIGKILL, and a start before the exit", st, err)
	}
	if err := p.Kill(ctx, hostclient.SIGTERM); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Kill() of an exited process = %v; want errdefs.ErrFailedPrecondition", err)
	}
	for range 2 {
		if err := p.Delete(ctx); err != nil || deleted != 1 {
			t.Errorf("Delete() = %v, and OnDelete ran %d times; want no error, and once", err, deleted)
		}
	}
	if err := web.Kill(ctx, hostclient.SIGTERM); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Kill() of a deleted container = %v; want errdefs.ErrNotFound", err)
	}
}

func testForceDelete(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	cmd := vm.Client.Command(ctx, busybox, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Process.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
	if err := cmd.Wait(); !errors.Is(err, errdefs.ErrNotFound) {
		if exit, ok := errors.AsType[*hostclient.ExitError](err); !ok || exit.Signal != hostclient.SIGKILL {
			t.Errorf("Wait() = %v; want SIGKILL, or that it is deleted", err)
		}
	}
}

// Another process holds the output: the wait gives up, says who it is, and nothing of what came is lost.
func testHeldOutput(t *testing.T, vm *vmtest.VM) {
	cmd := vm.Client.Command(vmContext(t), busybox, "sh", "-c", busybox+" sleep 1000 & echo told")
	cmd.Config = func(cfg *hostclient.ProcessConfig) { cfg.DrainTimeout = 300 * time.Millisecond }
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil || out.String() != "told\n" {
		t.Fatalf("Run() = %v, output %q; want no error and what was said", err, out.String())
	}
	o := cmd.Status.Outputs[0]
	if o.Drained || o.Length != 5 || len(o.Holders) != 1 || o.Holders[0].Name != "busybox" && o.Holders[0].Name != "sleep" {
		t.Errorf("output: %+v; want it held by sleep", o)
	}
}

func testTerminal(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	var out bytes.Buffer
	p, err := vm.Client.NewProcess(hostclient.ProcessConfig{
		Process: &specs.Process{
			Args: []string{busybox, "sh", "-c", "stty size; read line; echo got $line; stty size; " + busybox + " cat"}, Terminal: true,
			Env: []string{"PATH=" + vmtest.Rootfs + "/bin"}, Cwd: "/", ConsoleSize: &specs.Box{Width: 100, Height: 30},
		},
		Stdin: strings.NewReader("word\nlast"), Stdout: &out,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.ForceDelete(ctx)
	if err := p.Create(ctx); err != nil {
		t.Fatalf("Create() = %v; want no error", err)
	}
	if err := p.Resize(ctx, 120, 40); err != nil {
		t.Errorf("Resize() before the start = %v; want no error", err)
	}
	if err := p.Start(ctx); err != nil {
		t.Fatalf("Start() = %v; want no error", err)
	}
	if _, err := p.Wait(ctx); err != nil {
		t.Errorf("Wait() = %v; want no error", err)
	}
	for _, want := range []string{"40 120\r\n", "got word\r\n", "last"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the terminal shows %q; want %q in it", out.String(), want)
		}
	}
}

func testCancelledCommand(t *testing.T, vm *vmtest.VM) {
	ctx, cancel := context.WithCancel(vmContext(t))
	cmd := vm.Client.Command(ctx, busybox, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*hostclient.ExitError](err); !errors.Is(err, context.Canceled) || !ok || exit.Signal != hostclient.SIGKILL {
		t.Errorf("Wait() = %v; want context.Canceled and SIGKILL", err)
	}
}

func dial(t *testing.T, vm *vmtest.VM) *hostclient.Client {
	t.Helper()
	c, err := hostclient.Connect(vmContext(t), vm.Machine, nil)
	if err != nil {
		t.Fatalf("Connect(…) = %v; want no error", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A process outlives its client; another one attaches, and gets the rest of the output.
func testNewClient(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	first := dial(t, vm)
	var out1, out2 bytes.Buffer
	in, feed := io.Pipe()
	cmd := first.Command(ctx, busybox, "cat")
	cmd.ID, cmd.Stdin, cmd.Stdout = "survivor", in, &out1
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(feed, "one ")
	first.Close()
	feed.Close()

	c := dial(t, vm)
	p, err := c.Attach(ctx, "survivor", &hostclient.AttachConfig{Stdin: strings.NewReader("two"), Stdout: &out2})
	if err != nil {
		t.Fatalf("Attach(…) = %v; want no error", err)
	}
	if _, err := p.Wait(ctx); err != nil {
		t.Errorf("Wait() = %v; want no error", err)
	}
	// What the first client's relay had taken and not sent when it closed is gone, and what it had not acknowledged comes again.
	if got := out1.String() + out2.String(); !strings.HasSuffix(got, "two") || strings.Contains(got, "two two") {
		t.Errorf("the two clients got %q and %q; want the end from the second", out1.String(), out2.String())
	}
	if err := p.Delete(ctx); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
}

func testTakeOver(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	cmd := vm.Client.Command(ctx, busybox, "sh", "-c", "read x; echo $x")
	in, feed := io.Pipe()
	defer feed.Close()
	cmd.ID, cmd.Stdin, cmd.Stdout = "contested", in, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, vm)
	var out bytes.Buffer
	cfg := hostclient.AttachConfig{Stdin: strings.NewReader("taken\n"), Stdout: &out}
	if _, err := c.Attach(ctx, "contested", &cfg); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Attach without TakeOver = %v; want errdefs.ErrFailedPrecondition", err)
	}
	cfg.TakeOver, cfg.Stdin = true, strings.NewReader("taken\n")
	p, err := c.Attach(ctx, "contested", &cfg)
	if err != nil {
		t.Fatalf("Attach with TakeOver = %v; want no error", err)
	}
	if _, err := p.Wait(ctx); err != nil || out.String() != "taken\n" {
		t.Errorf("Wait() = %v, output %q; want what the second client said", err, out.String())
	}
	if err := cmd.Wait(); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Wait() of the first client = %v; want errdefs.ErrFailedPrecondition", err)
	}
}

// Every connection of the machine is reset, again and again, in the middle of a transfer both ways: not a byte is lost or doubled.
func testReset(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	data := make([]byte, 16<<20)
	_, _ = rand.Read(data)
	cmd := vm.Client.Command(ctx, busybox, "cat")
	var out meter
	cmd.Stdin, cmd.Stdout = bytes.NewReader(data), &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	resets := 0
	for next := 1 << 20; next < len(data); next += 3 << 20 {
		if !out.wait(ctx, next) {
			t.Fatalf("%d bytes came back before the context ended", out.length())
		}
		vm.Machine.Device().ResetConnections()
		resets++
		if err := vm.Client.Ping(ctx); err != nil {
			t.Errorf("Ping() after a reset = %v; want no error", err)
		}
	}
	if err := cmd.Wait(); err != nil || !bytes.Equal(out.bytes(), data) {
		t.Errorf("Wait() = %v; %d bytes came back, equal %v; want the same %d, after %d resets", err, out.length(), bytes.Equal(out.bytes(), data), len(data), resets)
	}
}

// meter is a Writer that can be waited for.
type meter struct {
	mu    sync.Mutex
	buf   []byte
	grown chan struct{}
}

func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.buf = append(m.buf, b...)
	if m.grown != nil {
		close(m.grown)
		m.grown = nil
	}
	return len(b), nil
}

func (m *meter) bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.buf
}

func (m *meter) length() int { return len(m.bytes()) }

func (m *meter) wait(ctx context.Context, n int) bool {
	for {
		m.mu.Lock()
		if len(m.buf) >= n {
			m.mu.Unlock()
			return true
		}
		if m.grown == nil {
			m.grown = make(chan struct{})
		}
		grown := m.grown
		m.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return false
		}
	}
}

// A paused machine is silent, and not lost.
func testPause(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	c, err := hostclient.Connect(ctx, vm.Machine, &hostclient.Config{PingInterval: 10 * time.Millisecond, PingTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Pause()
	if err := vm.Machine.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := c.Ping(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping() of a paused machine = %v; want the context's error", err)
	}
	if err := vm.Machine.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	c.Resume()
	if err := c.Ping(ctx); err != nil || c.Err() != nil {
		t.Errorf("Ping() after the pause = %v, client %v; want no error", err, c.Err())
	}
}

func testManyProcesses(t *testing.T, vm *vmtest.VM) {
	ctx := vmContext(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			cmd := vm.Client.Command(ctx, busybox, "sh", "-c", fmt.Sprintf("cat; exit %d", i))
			cmd.Stdin = strings.NewReader(fmt.Sprint(i))
			cmd.Config = func(cfg *hostclient.ProcessConfig) { cfg.ConnectTimeout = time.Minute } // 150 connections at once, on a busy host
			out, err := cmd.Output()
			if string(out) != fmt.Sprint(i) || hostclient.ShellCode(err) != i {
				t.Errorf("process %d: %q, %v; want its number as output and as code", i, out, err)
			}
		})
	}
	wg.Wait()
}

// The tests before have deleted all that they created.
func testNothingLeft(t *testing.T, vm *vmtest.VM) {
	list, err := vm.Client.List(vmContext(t))
	if err != nil || len(list) != 0 {
		t.Errorf("List() = %+v, %v; want none", list, err)
	}
}
