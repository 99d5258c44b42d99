package vmtest_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// testExitTail has 200 processes write more than a pipe holds and exit at once: the tail arrives.
func testExitTail(t *testing.T, g *guest) {
	want := numbered(tailLines)
	tail := func(where place, runs int) {
		for range runs {
			var out bytes.Buffer
			cfg := g.script(where, "exec cat tmp/tail")
			cfg.Stdout = &out
			p := g.start(t, cfg)
			status, err := p.Wait(deadline(t))
			if err != nil || !status.Success() || out.String() != want {
				t.Fatalf("%v: Wait() = %+v, %v, %d bytes, equal %v; want all %d", where, status, err, out.Len(), out.String() == want, len(want))
			}
			checkLengths(t, status, map[hostclient.Stream]int{hostclient.Stdout: len(want)})
			if err := p.Delete(deadline(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tail(outside, 90)
	tail(further, 90)
	tail(first, 20)
}

// testLargeOutput has both outputs carry megabytes side by side.
func testLargeOutput(t *testing.T, g *guest) {
	want := numbered(largeLines)
	inEveryPlace(t, func(t *testing.T, where place) {
		var stdout, stderr bytes.Buffer
		cfg := g.script(where, "cat tmp/large & cat tmp/large >&2; wait")
		cfg.Stdout, cfg.Stderr = &stdout, &stderr
		status, err := g.start(t, cfg).Wait(deadline(t))
		if err != nil || stdout.String() != want || stderr.String() != want {
			t.Errorf("Wait() = %v, %d and %d bytes; want both whole", err, stdout.Len(), stderr.Len())
		}
		checkLengths(t, status, map[hostclient.Stream]int{hostclient.Stdout: stdout.Len(), hostclient.Stderr: stderr.Len()})
	})
}

// gated is a Writer that takes nothing before its gate is closed.
type gated struct {
	gate chan struct{}
	output
}

func (w *gated) Write(b []byte) (int, error) {
	<-w.gate
	return w.output.Write(b)
}

// testSlowReader has the caller's Writer stand still for several times the drain's bound, as `| less` does: nothing is lost.
func testSlowReader(t *testing.T, g *guest) {
	const bound = 200 * time.Millisecond
	inEveryPlace(t, func(t *testing.T, where place) {
		ctx := deadline(t)
		out := &gated{gate: make(chan struct{})}
		cfg := g.script(where, "cat tmp/tail")
		cfg.Stdout, cfg.DrainTimeout = out, bound
		p := g.start(t, cfg)
		if status, err := p.WaitExit(ctx); err != nil || !status.Success() {
			t.Errorf("WaitExit() while nobody reads = %+v, %v; want success", status, err)
		}
		time.AfterFunc(5*bound, func() { close(out.gate) }) // the bound must not run meanwhile
		status, err := p.Wait(ctx)
		if err != nil || out.String() != numbered(tailLines) {
			t.Errorf("Wait() = %v, %d bytes; want all of it", err, len(out.String()))
		}
		checkLengths(t, status, map[hostclient.Stream]int{hostclient.Stdout: len(out.String())})
	})
}

// testHeldOutput has a grandchild keep the pipe: Wait gives up, says who, and what is written later arrives all the same.
func testHeldOutput(t *testing.T, g *guest) {
	for _, where := range []place{outside, further} { // a container's other processes end with its first
		t.Run(where.String(), func(t *testing.T) {
			ctx := deadline(t)
			out := new(output)
			cfg := g.script(where, `trap "echo late; exit" USR1; (trap "echo late; exit" USR1; while :; do sleep 0.1; done) & echo $!`)
			cfg.Stdout, cfg.DrainTimeout = out, 300*time.Millisecond
			p := g.start(t, cfg)
			status, err := p.Wait(ctx)
			if err != nil || !status.Success() || len(status.Outputs) != 1 {
				t.Fatalf("Wait() = %+v, %v; want success", status, err)
			}
			o := status.Outputs[0]
			if o.Drained || len(o.Holders) == 0 || o.Holders[0].Pid < 2 || o.Length != uint64(len(out.String())) {
				t.Errorf("output = %+v; want it held, and the holder's pid", o)
			}
			pid := strings.TrimSpace(out.String())
			if where == outside {
				g.root(t, "kill -USR1 "+pid)
			} else {
				g.run(t, g.script(further, "kill -USR1 "+pid))
			}
			out.await(t, "late\n")
		})
	}
}

// testHeldTerminal is the same with a terminal, which a process in the background keeps open.
func testHeldTerminal(t *testing.T, g *guest) {
	for _, where := range []place{outside, further} {
		t.Run(where.String(), func(t *testing.T) {
			out := new(output)
			cfg := onTerminal(g.script(where, `trap "" HUP; sleep 1000 & echo told`))
			cfg.Stdout, cfg.DrainTimeout = out, 300*time.Millisecond
			p := g.start(t, cfg)
			status, err := p.Wait(deadline(t))
			if err != nil || !status.Success() || out.String() != "told\r\n" {
				t.Fatalf("Wait() = %+v, %v, output %q; want success and what was told", status, err, out.String())
			}
			if len(status.Outputs) != 1 || status.Outputs[0].Drained {
				t.Errorf("outputs = %+v; want one that is held", status.Outputs)
			}
		})
	}
	g.run(t, g.script(further, "killall sleep"))
}

// failing is a Writer, and a Reader, that fails after some bytes.
type failing struct {
	good int
	err  error
}

func (f *failing) Write(b []byte) (int, error) {
	n, err := f.next(len(b))
	if n < len(b) {
		err = f.err
	}
	return n, err
}

func (f *failing) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return f.next(len(b))
}

func (f *failing) next(n int) (int, error) {
	if f.good == 0 {
		return 0, f.err
	}
	n = min(n, f.good)
	f.good -= n
	return n, nil
}

// testFailingWriter has the caller's Writer fail: the process gets EPIPE, and Wait has both the error and the status.
func testFailingWriter(t *testing.T, g *guest) {
	full := errors.New("the disk is full")
	inEveryPlace(t, func(t *testing.T, where place) {
		cfg := g.script(where, "trap '' PIPE; while echo line; do :; done 2>/dev/null; exit 9")
		cfg.Stdout = &failing{good: 3 << 10, err: full}
		p := g.start(t, cfg)
		status, err := p.Wait(deadline(t))
		if !errors.Is(err, full) || status.Code != 9 {
			t.Errorf("Wait() = %+v, %v; want code 9 and the Writer's error", status, err)
		}
		if len(status.Outputs) != 1 || !status.Outputs[0].Stopped {
			t.Errorf("outputs = %+v; want one that was stopped", status.Outputs)
		}
	})
	cfg := onTerminal(g.script(further, "while echo line; do :; done"))
	cfg.Stdout = &failing{good: 3 << 10, err: full}
	p := g.start(t, cfg)
	if err := p.Kill(deadline(t), hostclient.SIGKILL); err != nil {
		t.Errorf("Kill() = %v; want no error", err)
	}
	if _, err := p.Wait(deadline(t)); err != nil && !errors.Is(err, full) {
		t.Errorf("Wait() of a terminal whose Writer may have failed = %v; want that error or none", err)
	}
	if _, err := g.Client.NewProcess(func() hostclient.ProcessConfig {
		cfg := onTerminal(g.script(further, "true"))
		cfg.Stderr = io.Discard
		return cfg
	}()); err == nil {
		t.Error("NewProcess(terminal with stderr) = no error; want errdefs.ErrInvalidArgument")
	}
}
