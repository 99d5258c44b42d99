package vmtest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
)

func hexSum[T string | []byte](data T) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(data))) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// testStdinBeforeStart gives a created process more input than every buffer on the way holds, and starts it then.
func testStdinBeforeStart(t *testing.T, g *guest) {
	data := randomBytes(3<<20 + 17)
	want := hexSum(data) + "  -\n"
	inEveryPlace(t, func(t *testing.T, where place) {
		var out bytes.Buffer
		cfg := g.script(where, "exec sha256sum")
		cfg.Stdin, cfg.Stdout = bytes.NewReader(data), &out
		p := g.process(t, cfg)
		if err := p.Create(deadline(t)); err != nil {
			t.Fatalf("Create() = %v; want no error", err)
		}
		if err := p.Start(deadline(t)); err != nil {
			t.Fatalf("Start() = %v; want no error", err)
		}
		if status, err := p.Wait(deadline(t)); err != nil || !status.Success() || out.String() != want {
			t.Errorf("Wait() = %v, %v, output %q; want %q", status, err, out.String(), want)
		}
	})
}

// testStdinMeetsStdout closes the input while megabytes of output are still to come: closing one drops nothing of the other.
func testStdinMeetsStdout(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		out := &gated{gate: make(chan struct{})}
		cfg := g.script(where, "cat tmp/large; cat")
		in, feed := io.Pipe()
		defer feed.Close()
		cfg.Stdin, cfg.Stdout = in, out
		p := g.start(t, cfg)
		give(t, feed, "last words")
		if err := p.CloseStdin(deadline(t)); err != nil {
			t.Errorf("CloseStdin() = %v; want no error", err)
		}
		close(out.gate)
		if status, err := p.Wait(deadline(t)); err != nil || !status.Success() || out.String() != numbered(largeLines)+"last words" {
			t.Errorf("Wait() = %v, %v, %d bytes; want all of it", status, err, len(out.String()))
		}
	})
}

// give writes to a relay's pipe and returns when the relay has the text: it reads again only then, also for nothing.
func give(t *testing.T, feed *io.PipeWriter, text string) {
	t.Helper()
	for _, b := range []string{text, ""} {
		if _, err := feed.Write([]byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

// testCloseStdinRace ends the input from both sides at once, many times: what was read arrives, and the process sees one end.
func testCloseStdinRace(t *testing.T, g *guest) {
	for i := range 40 {
		where := []place{outside, further}[i%2]
		var out bytes.Buffer
		in, feed := io.Pipe()
		cfg := g.script(where, "exec cat")
		cfg.Stdin, cfg.Stdout = in, &out
		p := g.start(t, cfg)
		give(t, feed, "kept")
		closed := make(chan error, 1)
		go func() { closed <- p.CloseStdin(deadline(t)) }()
		_ = feed.Close()
		if err := <-closed; err != nil {
			t.Errorf("CloseStdin() = %v; want no error", err)
		}
		if err := p.CloseStdin(deadline(t)); err != nil {
			t.Errorf("second CloseStdin() = %v; want no error", err)
		}
		if status, err := p.Wait(deadline(t)); err != nil || !status.Success() || out.String() != "kept" {
			t.Errorf("Wait() = %v, %v, output %q; want what was written", status, err, out.String())
		}
		if err := p.Delete(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// endless is a Reader that has always more.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '\n'
	}
	return len(b), nil
}

// testBlockedStdin has a process that reads nothing of an endless input: closing it, killing and waiting do not hang behind it.
func testBlockedStdin(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		cfg := g.script(where, "sleep 1000")
		cfg.Stdin = endless{}
		p := g.start(t, cfg)
		eventually(t, "input to reach the pipe", func() bool {
			info, _ := g.info(t, p.ID())
			return len(info.Streams) == 1 && info.Streams[0].Offset >= 4<<10
		})
		if err := p.CloseStdin(ctx); err != nil {
			t.Errorf("CloseStdin() = %v; want no error", err)
		}
		if err := p.Kill(ctx, hostclient.SIGKILL); err != nil {
			t.Errorf("Kill() = %v; want no error", err)
		}
		if status, err := p.Wait(ctx); err != nil || status.Signal != hostclient.SIGKILL {
			t.Errorf("Wait() = %v, %v; want SIGKILL", status, err)
		}
	})
}

// testProcessClosesStdin has processes that stop reading: the relay ends without an error, and does not attach again.
func testProcessClosesStdin(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		for _, script := range []string{"exec head -n1", "exec <&-; echo; sleep 0.5", "echo"} {
			var out bytes.Buffer
			cfg := g.script(where, script)
			cfg.Stdin, cfg.Stdout = endless{}, &out
			p := g.start(t, cfg)
			if status, err := p.Wait(deadline(t)); err != nil || !status.Success() || out.String() != "\n" {
				t.Errorf("%s: Wait() = %v, %v, output %q; want a line and success", script, status, err, out.String())
			}
		}
	})
}

// testFailingReader has the caller's Reader fail: the process gets what came before, then the end, and Wait has error and status.
func testFailingReader(t *testing.T, g *guest) {
	broken := errors.New("the tape is torn")
	inEveryPlace(t, func(t *testing.T, where place) {
		var out bytes.Buffer
		cfg := g.script(where, "wc -c; exit 4")
		cfg.Stdin, cfg.Stdout = &failing{good: 100_000, err: broken}, &out
		status, err := g.start(t, cfg).Wait(deadline(t))
		if !errors.Is(err, broken) || status.Code != 4 || strings.TrimSpace(out.String()) != "100000" {
			t.Errorf("Wait() = %v, %v, output %q; want code 4, the Reader's error and 100000", status, err, out.String())
		}
	})
}

// testNoStdin has processes without an input: they see its end at once, and closing it is refused.
func testNoStdin(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		status, out := g.run(t, g.script(where, "wc -c; sleep 0.1"))
		if !status.Success() || strings.TrimSpace(out) != "0" {
			t.Errorf("wc -c = %v, %q; want 0", status, out)
		}
		p := g.start(t, g.script(where, "sleep 1000"))
		if err := p.CloseStdin(deadline(t)); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("CloseStdin() without stdin = %v; want errdefs.ErrFailedPrecondition", err)
		}
	})
}
