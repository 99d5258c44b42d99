package vmtest_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testTerminal gives processes a terminal: it is their controlling one, has the size asked for, and its control characters work.
func testTerminal(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		out := new(output)
		in, feed := io.Pipe()
		cfg := onTerminal(g.script(where, "trap 'echo interrupted' INT; stty size; test -t 0 && test -t 1 && test -t 2 && echo tty </dev/tty >/dev/tty; "+
			"read line; echo got $line; until read line; do :; done; echo end; exit 3"))
		ociProcess(&cfg).ConsoleSize = &specs.Box{Width: 91, Height: 17}
		cfg.Stdin, cfg.Stdout = in, out
		p := g.start(t, cfg)
		out.await(t, "17 91\r\ntty\r\n")
		_, _ = io.WriteString(feed, "word\n")
		out.await(t, "got word\r\n")
		_, _ = io.WriteString(feed, "\x03") // ^C
		out.await(t, "interrupted\r\n")
		_, _ = io.WriteString(feed, "more\n")
		if status, err := p.Wait(ctx); err != nil || status.Code != 3 || !strings.HasSuffix(out.String(), "end\r\n") {
			t.Errorf("Wait() = %v, %v, output %q; want code 3 and the end", status, err, out.String())
		}
	})
}

// testTerminalEndOfInput ends a terminal's input behind a whole line, in mid-line, and with nothing: the process sees the end, and its output goes on.
func testTerminalEndOfInput(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		for _, text := range []string{"", "line\n", "line\nmid"} {
			out := new(output)
			cfg := onTerminal(g.script(where, "stty -echo; echo ready; cat; echo after; exit 2"))
			in, feed := io.Pipe()
			cfg.Stdin, cfg.Stdout = in, out
			p := g.start(t, cfg)
			out.await(t, "ready\r\n")
			_, _ = io.WriteString(feed, text)
			_ = feed.Close()
			status, err := p.Wait(deadline(t))
			if want := "ready\r\n" + strings.ReplaceAll(text, "\n", "\r\n") + "after\r\n"; err != nil || status.Code != 2 || out.String() != want {
				t.Errorf("input %q: Wait() = %v, %v, output %q; want code 2 and %q", text, status, err, out.String(), want)
			}
		}
	})
}

// testTerminalTakesMuch writes more than a terminal's buffer holds, to a process that reads late.
func testTerminalTakesMuch(t *testing.T, g *guest) {
	text := strings.Repeat(strings.Repeat("x", 63)+"\n", 2000) // 128,000 bytes
	inEveryPlace(t, func(t *testing.T, where place) {
		out := new(output)
		cfg := onTerminal(g.script(where, "stty raw -echo; echo ready; read late </dev/null; head -c 128000 | sha256sum | cut -c1-64"))
		in, feed := io.Pipe()
		cfg.Stdin, cfg.Stdout = in, out
		p := g.start(t, cfg)
		out.await(t, "ready\n")
		go func() {
			_, _ = io.WriteString(feed, text)
			_ = feed.Close()
		}()
		if status, err := p.Wait(deadline(t)); err != nil || !status.Success() || !strings.Contains(out.String(), hexSum(text)) {
			t.Errorf("Wait() = %v, %v, output %q; want success and %s", status, err, out.String(), hexSum(text))
		}
	})
}

// testResize resizes before the start and while running, and what has no terminal.
func testResize(t *testing.T, g *guest) {
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		out := new(output)
		in, feed := io.Pipe()
		defer feed.Close()
		cfg := onTerminal(g.script(where, "trap 'stty size' WINCH; stty size; while :; do read -t 1 x; done"))
		cfg.Stdin, cfg.Stdout = in, out
		p := g.process(t, cfg)
		if err := p.Resize(ctx, 80, 24); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Resize() before Create() = %v; want errdefs.ErrFailedPrecondition", err)
		}
		if err := p.Create(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.Resize(ctx, 120, 40); err != nil {
			t.Errorf("Resize() before Start() = %v; want no error", err)
		}
		if err := p.Start(ctx); err != nil {
			t.Fatal(err)
		}
		out.await(t, "40 120\r\n")
		if err := p.Resize(ctx, 1000, 300); err != nil {
			t.Errorf("Resize() while running = %v; want no error", err)
		}
		out.await(t, "300 1000\r\n")
		for _, size := range [][2]int{{-1, 24}, {80, 65536}, {1 << 40, 24}} {
			if err := p.Resize(ctx, size[0], size[1]); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("Resize(%v) = %v; want errdefs.ErrInvalidArgument", size, err)
			}
		}
		if err := p.Kill(ctx, hostclient.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(ctx); err != nil {
			t.Errorf("Wait() = %v; want no error", err)
		}
		plain := g.start(t, g.script(where, "sleep 1000"))
		if err := plain.Resize(ctx, 80, 24); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("Resize() without a terminal = %v; want errdefs.ErrFailedPrecondition", err)
		}
	})
}
