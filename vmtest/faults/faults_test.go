package faults

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// TestFaults shares one machine among everything that breaks connections.
func TestFaults(t *testing.T) {
	m := startMachine(t)
	rng := rand.New(rand.NewPCG(*seed, 0))
	for _, tt := range []struct {
		name string
		test func(*testing.T, *machine, *rand.Rand)
	}{
		{"Data", testDataFaults},
		{"Control", testControlFaults},
		{"Both", testBothFaults},
		{"ResetAll", testResetAll},
	} {
		mine := rand.New(rand.NewPCG(rng.Uint64(), 0))
		t.Run(tt.name, func(t *testing.T) { tt.test(t, m, mine) })
	}
}

// transfer is a process that moves the stream, and what must be true of it in the end.
type transfer struct {
	t      *testing.T
	kind   string
	length int
	*hostclient.Process
	out, err *checker // nil: not connected
}

// kinds are the ways in which a process moves bytes.
var kinds = []string{"cat", "generate", "sum"}

// transfer makes a process of a kind that moves so many bytes. It does not run yet.
func (m *machine) transfer(t *testing.T, rng *rand.Rand, kind string, length int) *transfer {
	t.Helper()
	x := &transfer{t: t, kind: kind, length: length}
	var cfg hostclient.ProcessConfig
	switch kind {
	case "cat": // both ways
		cfg = script("cat")
		x.out = new(checker)
		cfg.Stdin, cfg.Stdout = newSource(rng, length), x.out
	case "generate": // outwards, twice
		cfg = script("(%s) & (%[1]s) >&2; wait", generate(length))
		x.out, x.err = new(checker), new(checker)
		cfg.Stdout, cfg.Stderr = x.out, x.err
	case "sum": // inwards
		cfg = script(`s=$(md5sum); [ "$s" = "%s  -" ]`, streamSum(length))
		cfg.Stdin = newSource(rng, length)
	}
	x.Process = m.process(t, cfg)
	return x
}

// finish waits for the transfer's end and checks that nothing is lost, nothing doubled, and the process was not disturbed.
func (x *transfer) finish() {
	x.t.Helper()
	status, err := x.Wait(deadline(x.t))
	if err != nil || !status.Success() {
		x.t.Errorf("%s of %d bytes: Wait() = %v, %v; want success", x.kind, x.length, status, err)
	}
	for name, c := range map[hostclient.Stream]*checker{hostclient.Stdout: x.out, hostclient.Stderr: x.err} {
		if c != nil && c.received() != x.length {
			x.t.Errorf("%s of %d bytes: %v has %d", x.kind, x.length, name, c.received())
		}
	}
	for _, o := range status.Outputs {
		if o.Length != uint64(x.length) || !o.Drained {
			x.t.Errorf("%s of %d bytes: the guest says of an output %+v", x.kind, x.length, o)
		}
	}
	if err := x.Delete(deadline(x.t)); err != nil {
		x.t.Errorf("%s of %d bytes: Delete() = %v; want no error", x.kind, x.length, err)
	}
}

// run runs the transfer from its beginning to its end.
func (x *transfer) run() {
	x.t.Helper()
	if err := x.Launch(deadline(x.t)); err != nil {
		x.t.Errorf("%s of %d bytes: Launch() = %v; want no error", x.kind, x.length, err)
		return
	}
	x.finish()
}

// transferAll runs transfers of every kind side by side under a plan.
func (m *machine) transferAll(t *testing.T, rng *rand.Rand, p *plan, length int) {
	t.Helper()
	before := m.Machine.Device().Stats().Faults
	stop := m.inject(p)
	defer stop()
	began := time.Now()
	var wg sync.WaitGroup
	for _, kind := range kinds {
		x := m.transfer(t, rng, kind, length/2+rng.IntN(length))
		wg.Go(x.run)
	}
	wg.Wait()
	t.Logf("%d cuts in %v; %v", m.Machine.Device().Stats().Faults-before, time.Since(began).Round(time.Millisecond), p)
	if m.Machine.Device().Stats().Faults == before {
		t.Error("nothing was cut; want faults")
	}
}

// testDataFaults cuts data connections at random bytes.
func testDataFaults(t *testing.T, m *machine, rng *rand.Rand) {
	p := newPlan(rng)
	p.data = anyDataFault
	m.transferAll(t, rng, p, 10<<20)
}

// testControlFaults cuts control connections at random bytes.
func testControlFaults(t *testing.T, m *machine, rng *rand.Rand) {
	p := newPlan(rng)
	p.control = anyControlFault
	m.inject(p)
	m.Machine.Device().ResetConnections() // the present one has no fault
	m.transferAll(t, rng, p, 1<<20)
}

// testBothFaults has both kinds of connection break.
func testBothFaults(t *testing.T, m *machine, rng *rand.Rand) {
	p := newPlan(rng)
	p.data, p.control = anyDataFault, anyControlFault
	m.inject(p)
	m.Machine.Device().ResetConnections()
	m.transferAll(t, rng, p, 5<<20)
}

// testResetAll resets all connections at once, again and again, as restored snapshots do.
func testResetAll(t *testing.T, m *machine, rng *rand.Rand) {
	const resets = 20
	var transfers []*transfer
	for _, kind := range kinds {
		x := m.transfer(t, rng, kind, 10<<20)
		if err := x.Launch(deadline(t)); err != nil {
			t.Fatalf("Launch() = %v; want no error", err)
		}
		transfers = append(transfers, x)
	}
	for range resets {
		pause := time.Duration(logUniform(rng, 1e6, 1e8))
		time.Sleep(pause) // anywhere in the transfer, or in the reattaching after the reset before
		m.Machine.Device().ResetConnections()
	}
	for _, x := range transfers {
		x.finish()
	}
}
