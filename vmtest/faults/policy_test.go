package faults

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// gated is a checker that takes nothing before its gate is closed.
type gated struct {
	gate chan struct{}
	checker
}

func (g *gated) Write(b []byte) (int, error) {
	<-g.gate
	return g.checker.Write(b)
}

// testBystanders has streams stand still in every way there is: a caller that takes nothing, connections that carry nothing in either direction, and a
// process that reads nothing. Transfers beside them go on, killing and waiting work, and what was stalled is whole when it goes on.
func testBystanders(t *testing.T, m *machine, rng *rand.Rand) {
	gate := new(vsockdev.Gate)
	var open sync.Once
	release := func() { open.Do(gate.Open) }
	defer release()
	stalled := newPlan(rng)
	stalled.data = func(rng *rand.Rand) []vsockdev.Fault {
		d := vsockdev.Direction(rng.IntN(2))
		return []vsockdev.Fault{{Direction: d, At: uint64(logUniform(rng, 200, 20_000)), Action: vsockdev.FaultStall, Gate: gate}}
	}
	stop := m.inject(stalled)
	var waiting []*transfer
	for _, kind := range kinds {
		x := m.transfer(t, rng, kind, 5<<20)
		if err := x.Launch(deadline(t)); err != nil {
			t.Fatalf("Launch() = %v; want no error", err)
		}
		waiting = append(waiting, x)
	}
	stop()
	slow := &gated{gate: make(chan struct{})}
	cfg := script("while :; do cat %s; done", patternFile)
	cfg.Stdout = slow
	writer := m.launch(t, cfg)
	cfg = script("sleep 100000")
	cfg.Stdin = newSource(rng, 5<<20)
	reader := m.launch(t, cfg)

	for _, kind := range kinds {
		m.transfer(t, rng, kind, 5<<20).run()
	}
	for _, p := range []*hostclient.Process{writer, reader} {
		if err := p.Kill(deadline(t), hostclient.SIGKILL); err != nil {
			t.Errorf("Kill() of a process whose stream stands still = %v; want no error", err)
		}
		if status, err := p.WaitExit(deadline(t)); err != nil || status.ExitCode() != 137 {
			t.Errorf("WaitExit() = %v, %v; want 137", status, err)
		}
	}
	close(slow.gate)
	status, err := writer.Wait(deadline(t))
	if err != nil || len(status.Outputs) != 1 || status.Outputs[0].Length != uint64(slow.received()) {
		t.Errorf("Wait() = %+v, %v; want %d bytes of output", status, err, slow.received())
	}
	release()
	for _, x := range waiting {
		x.finish()
	}
}

// testDropOldest leaves a process that may drop its output without a client: it does not block, and a new client gets the newest ring.
func testDropOldest(t *testing.T, m *machine, _ *rand.Rand) {
	const ring = 256 << 10
	length := len(pattern)
	cfg := script("cat %s", patternFile)
	cfg.Stdout = io.Discard
	cfg.StdoutOptions = hostclient.StreamOptions{DropOldest: true, Buffer: ring}
	p, ctx := m.process(t, cfg), deadline(t)
	if err := p.Create(ctx); err != nil {
		t.Fatalf("Create() = %v; want no error", err)
	}
	if err := p.Detach(ctx); err != nil {
		t.Fatalf("Detach() = %v; want no error", err)
	}
	if err := p.Start(ctx); err != nil {
		t.Fatalf("Start() = %v; want no error", err)
	}
	if status, err := p.WaitExit(ctx); err != nil || !status.Success() {
		t.Fatalf("WaitExit() without a reader = %v, %v; want success", status, err)
	}
	var first uint64
	_, err := m.Client.Attach(ctx, p.ID(), &hostclient.AttachConfig{Stdout: io.Discard, StdoutOffset: &first})
	if !errors.Is(err, errdefs.ErrOutOfRange) {
		t.Errorf("Attach() at what is dropped = %v; want errdefs.ErrOutOfRange", err)
	}
	var out lateChecker
	q, err := m.Client.Attach(ctx, p.ID(), &hostclient.AttachConfig{Stdout: &out})
	if err != nil {
		t.Fatalf("Attach() = %v; want no error", err)
	}
	if _, err := q.Wait(ctx); err != nil || out.checker.received() != length || out.from < length-ring || out.from > length-ring/2 {
		t.Errorf("Wait() = %v, output from %d to %d; want the newest of %d, of a ring of %d", err, out.from, out.checker.received(), length, ring)
	}
}

// testDirect moves a stream without resuming: whole where nothing breaks, and where the connection does, that is the end, which both sides learn.
func testDirect(t *testing.T, m *machine, rng *rand.Rand) {
	run := func(length int, fault ...vsockdev.Fault) (hostclient.ExitStatus, int, error) {
		t.Helper()
		p := newPlan(rng)
		p.data = func(*rand.Rand) []vsockdev.Fault { return fault }
		defer m.inject(p)()
		out := new(checker)
		cfg := script("%s", generate(length))
		cfg.Stdout, cfg.StdoutOptions.Direct = out, true
		status, err := m.launch(t, cfg).Wait(deadline(t))
		return status, out.received(), err
	}
	length := 5<<20 + rng.IntN(100)
	if status, n, err := run(length); err != nil || !status.Success() || n != length {
		t.Errorf("direct: Wait() = %v, %v, %d bytes; want success and %d", status, err, n, length)
	}
	at := uint64(rng.IntN(1 << 20))
	for _, a := range cuts {
		status, n, err := run(length, vsockdev.Fault{Direction: vsockdev.GuestToHost, At: 64 + at, Action: a})
		if status.Success() || n > int(at) || a == vsockdev.FaultReset && err == nil {
			t.Errorf("direct, %s at %d: Wait() = %v, %v, %d bytes; want that the process fails", actionName(a), at, status, err, n)
		}
	}
}
