package hostclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestCmdOutput(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, speak("words\n", "complaint\n", 3))
	c := connect(t, g, nil)
	out, err := c.Command(t.Context(), "x").Output()
	exit, ok := errors.AsType[*ExitError](err)
	if string(out) != "words\n" || !ok || exit.Code != 3 || string(exit.Stderr) != "complaint\n" {
		t.Errorf("Output() = %q, %v; want words, and exit status 3 with the complaint", out, err)
	}
	if len(exit.Outputs) != 2 || exit.Outputs[0].Length != 6 || !exit.Outputs[0].Drained {
		t.Errorf("outputs: %+v; want two, the first of 6 bytes and drained", exit.Outputs)
	}
}

func TestCmdCombinedOutput(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, speak("words\n", "complaint\n", 0))
	c := connect(t, g, nil)
	out, err := c.Command(t.Context(), "x").CombinedOutput()
	if err != nil || len(out) != 16 || !strings.Contains(string(out), "words\n") || !strings.Contains(string(out), "complaint\n") {
		t.Errorf("CombinedOutput() = %q, %v; want both outputs", out, err)
	}
}

func TestCmdStdin(t *testing.T) {
	checkLeaks(t)
	data := make([]byte, 3<<20+17)
	_, _ = rand.Read(data)
	g := newFakeGuest(t)
	serveStdio(g, cat)
	c := connect(t, g, nil)
	cmd := c.Command(t.Context(), "cat")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil || sha256.Sum256(out) != sha256.Sum256(data) {
		t.Errorf("cat gave back %d bytes, %v; want the same %d", len(out), err, len(data))
	}
}

func TestCmdPipes(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, cat)
	c := connect(t, g, nil)
	cmd := c.Command(t.Context(), "cat")
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	stderr, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	go func() {
		io.WriteString(stdin, "through")
		stdin.Close()
	}()
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }() // also before the outputs are read
	out, err := io.ReadAll(stdout)
	if string(out) != "through" || err != nil {
		t.Errorf("stdout gave %q, %v; want what went in", out, err)
	}
	if b, err := io.ReadAll(stderr); len(b) != 0 || err != nil {
		t.Errorf("stderr gave %q, %v; want nothing", b, err)
	}
	if err := <-waited; err != nil {
		t.Errorf("Wait() = %v; want no error", err)
	}
	if _, err := stdin.Write([]byte("x")); err == nil {
		t.Error("a write to the input of an exited process has no error; want one")
	}
}

// A caller that closes the pipe of an output wants no more of it, which is no error.
// TestCmdReadToTheEnd reads the output to its end before it calls Wait, as one does with os/exec.
func TestCmdReadToTheEnd(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, speak("all of it", "", 3))
	c := connect(t, g, nil)
	cmd := c.Command(t.Context(), "speak")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(stdout); string(out) != "all of it" || err != nil {
		t.Errorf("stdout gave %q, %v; want it whole", out, err)
	}
	if err := cmd.Wait(); ShellCode(err) != 3 {
		t.Errorf("Wait() = %v; want exit status 3", err)
	}
}

func TestCmdClosedStdoutPipe(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, speak(strings.Repeat("y\n", 1<<20), "", 0))
	c := connect(t, g, nil)
	cmd := c.Command(t.Context(), "yes")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(stdout, make([]byte, 10))
	stdout.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("Wait() = %v; want no error", err)
	}
}

type failingWriter struct{}

var errDiskFull = errors.New("the disk is full")

func (failingWriter) Write([]byte) (int, error) { return 0, errDiskFull }

func (failingWriter) Read([]byte) (int, error) { return 0, errDiskFull }

// The caller's Writer fails: Wait returns that error beside the status.
func TestFailingWriter(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, speak("words", "", 7))
	c := connect(t, g, nil)
	cmd := c.Command(t.Context(), "x")
	cmd.Stdout = failingWriter{}
	if err := cmd.Run(); !errors.Is(err, errDiskFull) || cmd.Status == nil || cmd.Status.Code != 7 {
		t.Errorf("Run() = %v, status %v; want the writer's error, and code 7", err, cmd.Status)
	}
}

func TestFailingReader(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, cat)
	c := connect(t, g, nil)
	cmd := c.Command(t.Context(), "cat")
	cmd.Stdin = failingWriter{}
	if err := cmd.Run(); !errors.Is(err, errDiskFull) {
		t.Errorf("Run() = %v; want the reader's error", err)
	}
}

// Connections break in mid-stream, each way and again and again: the bytes are the same.
func TestReattach(t *testing.T) {
	checkLeaks(t)
	data := make([]byte, 2<<20)
	_, _ = rand.Read(data)
	g := newFakeGuest(t)
	const cuts = 50
	s := serveStdio(g, func(s *fakeStdio) *pb.Exited {
		step := len(data) / cuts
		for i := range cuts {
			s.write(Stdout, data[i*step:(i+1)*step])
			s.hangUp(Stdout, Stdin)
		}
		s.write(Stdout, data[cuts*step:])
		in := s.readAll()
		s.end(Stdout)
		s.write(Stderr, in)
		s.end(Stderr)
		return &pb.Exited{}
	})
	c := connect(t, g, nil)
	var stdout, stderr bytes.Buffer
	cmd := c.Command(t.Context(), "x")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), &stdout, &stderr
	err := cmd.Run()
	if err != nil || !bytes.Equal(stdout.Bytes(), data) || !bytes.Equal(stderr.Bytes(), data) {
		t.Errorf("Run() = %v; %d bytes of output, %d of echo; want the same %d", err, stdout.Len(), stderr.Len(), len(data))
	}
	t.Logf("attached %d times, generations %v", g.table.times("attach"), s.generation)
}

// A loss that the guest alone has noticed comes by the watch.
func TestReattachOnTheGuestsWord(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	goOn := make(chan struct{})
	goOnce := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(goOnce)
	serveStdio(g, func(s *fakeStdio) *pb.Exited {
		<-goOn
		return speak("late", "", 0)(s)
	})
	serve := g.table.script
	g.table.script = func(c *fakeCall) bool {
		if c.req.GetWatch() == nil {
			return serve(c)
		}
		lost := &pb.StreamLost{Id: "web", Stream: pb.Stream_STREAM_STDOUT, Generation: 1}
		for range 3 { // told again and again, it is one loss
			c.progress(&pb.Response{What: &pb.Response_Event{Event: &pb.Event{What: &pb.Event_StreamLost{StreamLost: lost}}}})
		}
		<-c.ctx.Done()
		return true
	}
	c := connect(t, g, &Config{Logger: testLogger(t)})
	var stdout bytes.Buffer
	cfg := sleeper("web")
	cfg.Stdout = &stdout
	p := newProcess(t, c, cfg)
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached again", func() bool { return g.table.times("attach") > 0 })
	eventually(t, "taken all that was told", func() bool { return len(p.stdio.toldNews) == 0 })
	for range 10 { // time for an Attach that should not be
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	goOnce()
	if _, err := p.Wait(t.Context()); err != nil || stdout.String() != "late" {
		t.Errorf("Wait() = %v, output %q; want no error and %q", err, stdout.String(), "late")
	}
	if n := g.table.times("attach"); n != 1 {
		t.Errorf("attached %d times; want once", n)
	}
}

// Another client has taken the stream over: this one gives up, and says so.
func TestTakenOver(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	started := make(chan struct{})
	s := serveStdio(g, func(s *fakeStdio) *pb.Exited {
		<-started
		s.mu.Lock()
		s.generation[Stdout] = 5
		s.mu.Unlock()
		s.hangUp(Stdout)
		return &pb.Exited{}
	})
	s.lengths[Stdout] = 100
	c := connect(t, g, nil)
	cfg := sleeper("web")
	cfg.Stdout = io.Discard
	p := newProcess(t, c, cfg)
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(started)
	if st, err := p.Wait(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "stdout") {
		t.Errorf("Wait() = %v, %v; want errdefs.ErrFailedPrecondition about stdout", st, err)
	}
}

func TestAttachTakesOver(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	s := serveStdio(g, cat)
	first := connect(t, g, nil)
	cfg := sleeper("web")
	cfg.Stdin, cfg.Stdout = strings.NewReader(""), io.Discard
	in, feed := io.Pipe()
	cfg.Stdin = in
	defer feed.Close()
	if err := newProcess(t, first, cfg).Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.table.mu.Lock()
	g.table.processes["web"].info.Streams = []*pb.StreamInfo{
		{Stream: pb.Stream_STREAM_STDIN, Generation: 1, Attached: true}, {Stream: pb.Stream_STREAM_STDOUT, Generation: 1, Attached: true},
	}
	g.table.mu.Unlock()

	c := connect(t, g, nil)
	var out bytes.Buffer
	p, err := c.Attach(t.Context(), "web", &AttachConfig{Stdin: strings.NewReader("from the second"), Stdout: &out, TakeOver: true})
	if err != nil {
		t.Fatalf("Attach(…) = %v; want no error", err)
	}
	if b := s.readAll(); string(b) != "from the second" {
		t.Errorf("the process read %q; want what the second client gave", b)
	}
	if _, err := p.Wait(t.Context()); err != nil {
		t.Errorf("Wait() = %v; want no error", err)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
}

func TestDetach(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	goOn := make(chan struct{})
	serveStdio(g, func(s *fakeStdio) *pb.Exited {
		<-goOn
		return speak("nobody hears this", "", 4)(s)
	})
	c := connect(t, g, nil)
	cfg := sleeper("web")
	cfg.Stdout = io.Discard
	p := newProcess(t, c, cfg)
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Detach(t.Context()); err != nil {
		t.Errorf("Detach() = %v; want no error", err)
	}
	p.streamLost(pb.Stream_STREAM_STDOUT, 1) // which is what the watch says of a detached stream
	for range 10 {                           // time for an Attach that should not be
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.table.times("attach"); n != 0 {
		t.Errorf("attached again %d times after Detach(); want never", n)
	}
	close(goOn)
	if st, err := p.Wait(t.Context()); err != nil || st.Code != 4 {
		t.Errorf("Wait() after Detach = %v, %v; want code 4", st, err)
	}
}

// A guest that says it dials, and doesn't, costs the caller's bound and no more; the error names what is missing.
func TestStreamsThatDoNotCome(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	canceled := make(chan struct{}, 1)
	g.table.script = func(c *fakeCall) bool {
		if c.req.GetCreate() == nil {
			return false
		}
		c.progress(&pb.Response{What: &pb.Response_Dialing{Dialing: &pb.Dialing{}}})
		<-c.ctx.Done()
		canceled <- struct{}{}
		return true
	}
	c := connect(t, g, nil)
	for _, launch := range []bool{false, true} {
		cfg := sleeper("web")
		cfg.Stdout, cfg.Stderr = io.Discard, io.Discard
		cfg.ConnectTimeout = 50 * time.Millisecond
		p := newProcess(t, c, cfg)
		start := p.Create
		if launch {
			start = p.Launch
		}
		err := start(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stdout, stderr") {
			t.Errorf("launch %v: %v; want context.DeadlineExceeded that names stdout and stderr", launch, err)
		}
		<-canceled
		if err := p.Delete(t.Context()); err != nil {
			t.Errorf("Delete() = %v; want no error", err)
		}
	}
}

// The guest says that all output is delivered, and that it is another length than has come. (The end of a stream carries its length, too.)
func TestOutputOfAnotherLength(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	s := serveStdio(g, func(s *fakeStdio) *pb.Exited {
		s.write(Stdout, []byte("words"))
		s.end(Stderr)
		return new(pb.Exited)
	})
	s.lengths[Stdout] = 3
	c := connect(t, g, nil)
	if out, err := c.Command(t.Context(), "x").Output(); !errors.Is(err, errdefs.ErrDataLoss) {
		t.Errorf("Output() = %q, %v; want errdefs.ErrDataLoss", out, err)
	}
}

// Who has the end of all output, and the exit, needs no more from the guest.
func TestWaitBeforeDrained(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	s := serveStdio(g, speak("words", "", 3))
	waited := make(chan struct{})
	s.drained = func() { <-waited }
	c := connect(t, g, nil)
	var out bytes.Buffer
	p, err := c.NewProcess(ProcessConfig{Process: &specs.Process{Args: []string{"x"}}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait(t.Context())
	close(waited)
	if want := (Output{Stream: Stdout, Length: 5, Drained: true}); err != nil || status.Code != 3 || len(status.Outputs) != 1 || !reflect.DeepEqual(status.Outputs[0], want) {
		t.Errorf("Wait() = %+v, %v; want code 3 and %+v", status, err, want)
	}
	if out.String() != "words" {
		t.Errorf("output = %q; want words", out.String())
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Errorf("Delete() = %v", err)
	}
}

// A listener that can't be had fails the Create; the next one tries again.
func TestListenFails(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	serveStdio(g, speak("words", "", 0))
	failures := portAttempts
	c, err := Connect(t.Context(), TransportFuncs{DialFunc: g.Dial, ListenFunc: func(port uint32) (net.Listener, error) {
		if failures--; failures >= 0 {
			return nil, errDiskFull
		}
		return g.Listen(port)
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Command(t.Context(), "x").Output(); !errors.Is(err, errDiskFull) {
		t.Errorf("Output() = %v; want the listener's error", err)
	}
	if out, err := c.Command(t.Context(), "x").Output(); err != nil || string(out) != "words" {
		t.Errorf("Output() = %q, %v; want words", out, err)
	}
}

func TestContainer(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	var creates []*pb.Create
	serveStdio(g, speak("words", "", 0))
	serve := g.table.script
	g.table.script = func(c *fakeCall) bool {
		if create := c.req.GetCreate(); create != nil {
			creates = append(creates, create)
		}
		return serve(c)
	}
	c := connect(t, g, nil)
	spec := DefaultSpec("/rootfs", "httpd")
	spec.Process.Cwd, spec.Process.User = "/srv", specs.User{UID: 33}
	web := c.NewContainer("web", spec)
	if err := web.Init(t.Context()).Run(); err != nil {
		t.Fatalf("Init().Run() = %v; want no error", err)
	}
	if err := web.Command(t.Context(), "ps").Run(); err != nil {
		t.Fatalf("Command(ps).Run() = %v; want no error", err)
	}
	if len(creates) != 2 || creates[0].Id != "web" || !bytes.Contains(creates[0].GetContainer().GetSpec(), []byte("httpd")) {
		t.Fatalf("creates: %v; want a container web first", creates)
	}
	exec := creates[1].GetExec()
	p := exec.GetProcess()
	if exec.GetContainer() != "web" || p.GetArgs()[0] != "ps" || p.GetCwd() != "/srv" || p.GetUser().GetUid() != 33 || !p.InheritSeccomp || !p.NoNewPrivileges {
		t.Errorf("the second process is %v; want ps in web, with what its spec says", exec)
	}
	if err := web.Delete(t.Context()); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Delete() of a container that is gone = %v; want errdefs.ErrNotFound", err)
	}
}
