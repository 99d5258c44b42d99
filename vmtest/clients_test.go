package vmtest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testOtherClient has a second client list, signal, wait for and delete what the first one created.
func testOtherClient(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		cfg := g.script(where, "sleep 1000")
		cfg.Stdout = io.Discard
		p := g.start(t, cfg)
		c := g.otherClient(t)
		list, err := c.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var info hostclient.ProcessInfo
		for _, i := range list {
			if i.ID == p.ID() {
				info = i
			}
		}
		if info.State != hostclient.StateRunning || info.Pid != p.Pid() || len(info.Streams) != 1 || !info.Streams[0].Attached || info.Streams[0].Own {
			t.Errorf("the other client lists %+v; want it running, with stdout attached to the first client", info)
		}
		q, err := c.Attach(ctx, p.ID(), nil)
		if err != nil {
			t.Fatalf("Attach(…) = %v; want no error", err)
		}
		if q.Pid() != p.Pid() {
			t.Errorf("Pid() = %d; want %d", q.Pid(), p.Pid())
		}
		if err := q.Kill(ctx, hostclient.SIGKILL); err != nil {
			t.Errorf("Kill() = %v; want no error", err)
		}
		for _, waiting := range []*hostclient.Process{p, q} {
			if status, err := waiting.Wait(ctx); err != nil || status.ExitCode() != 137 {
				t.Errorf("Wait() = %v, %v; want 137", status, err)
			}
		}
		if err := q.Delete(ctx); err != nil {
			t.Errorf("Delete() = %v; want no error", err)
		}
	})
	if _, err := g.Client.Attach(deadline(t), "nobody", nil); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Attach() to no process = %v; want errdefs.ErrNotFound", err)
	}
}

// testTakeOver has a second client take the streams of a live one, which it must say.
func testTakeOver(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		in, feed := io.Pipe()
		defer feed.Close()
		old := new(output)
		cfg := g.script(where, "echo hello; cat")
		cfg.Stdin, cfg.Stdout = in, old
		p := g.start(t, cfg)
		old.await(t, "hello\n")
		c := g.otherClient(t)
		var out bytes.Buffer
		attach := &hostclient.AttachConfig{Stdin: strings.NewReader("taken"), Stdout: &out}
		if _, err := c.Attach(ctx, p.ID(), attach); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Attach() without TakeOver = %v; want errdefs.ErrFailedPrecondition", err)
		}
		received := uint64(len("hello\n"))
		attach.TakeOver, attach.StdoutOffset, attach.Stdin = true, &received, strings.NewReader("taken")
		q, err := c.Attach(ctx, p.ID(), attach)
		if err != nil {
			t.Fatalf("Attach() with TakeOver = %v; want no error", err)
		}
		if status, err := q.Wait(ctx); err != nil || !status.Success() || out.String() != "taken" {
			t.Errorf("Wait() = %v, %v, output %q; want what the second client said", status, err, out.String())
		}
		if _, err := p.Wait(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Wait() of the first client = %v; want errdefs.ErrFailedPrecondition", err)
		}
		beyond := uint64(1 << 40)
		_, err = c.Attach(ctx, p.ID(), &hostclient.AttachConfig{Stdout: io.Discard, StdoutOffset: &beyond, TakeOver: true})
		if !errors.Is(err, errdefs.ErrOutOfRange) && !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Attach() beyond the output = %v; want errdefs.ErrOutOfRange", err)
		}
	})
}

// hesitant is a Writer that stands still once, when it has limit bytes.
type hesitant struct {
	output
	limit    int
	once     sync.Once
	reached  chan struct{} // closed when it stands still
	released chan struct{} // closed to let it go on
}

func (w *hesitant) Write(b []byte) (int, error) {
	n, err := w.output.Write(b)
	if len(w.String()) >= w.limit {
		w.once.Do(func() {
			close(w.reached)
			<-w.released
		})
	}
	return n, err
}

// testNewClient ends a client in mid-stream, without a word to the process; a new one attaches where the old one was, and the process notices nothing.
func testNewClient(t *testing.T, g *guest) {
	want := numbered(largeLines)
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		old := g.otherClient(t)
		first := &hesitant{limit: 300_000, reached: make(chan struct{}), released: make(chan struct{})}
		cfg := g.script(where, "cat tmp/large; exit 8")
		cfg.Stdout = first
		p, err := old.NewProcess(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Launch(ctx); err != nil {
			t.Fatal(err)
		}
		<-first.reached
		_ = old.Close() // which does not wait for the caller's own Write
		close(first.released)
		received := uint64(len(first.String()))

		var rest bytes.Buffer
		q, err := g.otherClient(t).Attach(ctx, p.ID(), &hostclient.AttachConfig{Stdout: &rest, StdoutOffset: &received})
		if err != nil {
			t.Fatalf("Attach(…) = %v; want no error", err)
		}
		if status, err := q.Wait(ctx); err != nil || status.Code != 8 {
			t.Errorf("Wait() = %v, %v; want code 8", status, err)
		}
		if got := first.String() + rest.String(); got != want {
			t.Errorf("the clients got %d and %d bytes; want the %d, whole and once", received, rest.Len(), len(want))
		}
		if err := q.Delete(ctx); err != nil {
			t.Errorf("Delete() = %v; want no error", err)
		}
	})
	t.Run("exits are kept", func(t *testing.T) {
		ctx := deadline(t)
		old := g.otherClient(t)
		cfg := g.script(further, "echo kept; exit 5")
		cfg.Stdout = io.Discard
		p, err := old.NewProcess(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Create(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.Detach(ctx); err != nil {
			t.Errorf("Detach() = %v; want no error", err)
		}
		if err := p.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := p.WaitExit(ctx); err != nil {
			t.Errorf("WaitExit() after Detach() = %v; want no error", err)
		}
		_ = old.Close()
		if _, err := p.Wait(ctx); !errors.Is(err, hostclient.ErrClosed) && !errors.Is(err, context.Canceled) && err != nil {
			t.Errorf("Wait() of a closed client = %v; want the status or ErrClosed", err)
		}
		var out bytes.Buffer
		q, err := g.Client.Attach(ctx, p.ID(), &hostclient.AttachConfig{Stdout: &out})
		if err != nil {
			t.Fatalf("Attach(…) = %v; want no error", err)
		}
		if status, err := q.Wait(ctx); err != nil || status.Code != 5 || out.String() != "kept\n" {
			t.Errorf("Wait() = %v, %v, output %q; want code 5 and the output kept", status, err, out.String())
		}
		if err := q.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
}
