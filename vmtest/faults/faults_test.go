package faults

import (
	"bytes"
	"fmt"
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
		{"Sweep", testSweep},
		{"KilledClients", testKilledClients},
		{"KilledClientWithoutMemory", testForgetfulClient},
		{"Bystanders", testBystanders},
		{"DropOldest", testDropOldest},
		{"Direct", testDirect},
	} {
		mine := rand.New(rand.NewPCG(rng.Uint64(), 0))
		t.Run(tt.name, func(t *testing.T) { tt.test(t, m, mine) })
	}
}

// transfer is a process that moves the stream, and what must be true of it in the end.
type transfer struct {
	t       *testing.T
	machine *machine
	kind    string
	length  int
	*hostclient.Process
	out, err *checker // nil: not connected
}

// kinds are the ways in which a process moves bytes that are run side by side.
var kinds = []string{"cat", "generate", "sum"}

// transfer makes a process of a kind that moves so many bytes. It does not run yet; finish deletes it.
func (m *machine) transfer(t *testing.T, rng *rand.Rand, kind string, length int) *transfer {
	t.Helper()
	x := &transfer{t: t, machine: m, kind: kind, length: length}
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
	case "out": // outwards
		cfg = script("%s", generate(length))
		x.out = new(checker)
		cfg.Stdout = x.out
	case "sum": // inwards
		cfg = script(`s=$(md5sum); [ "$s" = "%s  -" ]`, streamSum(length))
		cfg.Stdin = newSource(rng, length)
	}
	p, err := m.Client.NewProcess(cfg)
	if err != nil {
		t.Errorf("NewProcess(…) = %v; want no error", err)
		return nil
	}
	x.Process = p
	return x
}

// finish waits for the transfer's end and checks that nothing is lost, nothing doubled, and the process was not disturbed.
func (x *transfer) finish() {
	x.t.Helper()
	status, err := x.Wait(deadline(x.t))
	if err != nil || !status.Success() {
		x.t.Errorf("%s of %d bytes: Wait() = %v, %v; want success; the guest says %s", x.kind, x.length, status, err, x.machine.described(x.ID()))
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
	if _, err := x.ForceDelete(deadline(x.t)); err != nil {
		x.t.Errorf("%s of %d bytes: ForceDelete() = %v; want no error", x.kind, x.length, err)
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

// transferAll runs transfers of every kind side by side.
func (m *machine) transferAll(t *testing.T, rng *rand.Rand, length int) {
	t.Helper()
	var wg sync.WaitGroup
	for _, kind := range kinds {
		if x := m.transfer(t, rng, kind, length/2+rng.IntN(length)); x != nil {
			wg.Go(x.run)
		}
	}
	wg.Wait()
}

// underPlan runs f while new connections have the faults of p, and checks that some acted.
func (m *machine) underPlan(t *testing.T, p *plan, f func()) {
	t.Helper()
	before, began := m.Machine.Device().Stats().Faults, time.Now()
	stop := m.inject(p)
	f()
	stop()
	cut := m.Machine.Device().Stats().Faults - before
	t.Logf("%d cuts in %v; %v", cut, time.Since(began).Round(time.Millisecond), p)
	if cut == 0 {
		t.Error("nothing was cut; want faults")
	}
}

// testDataFaults cuts data connections at random bytes.
func testDataFaults(t *testing.T, m *machine, rng *rand.Rand) {
	p := newPlan(rng)
	p.data = anyDataFault
	m.underPlan(t, p, func() { m.transferAll(t, rng, 10<<20) })
}

// testControlFaults cuts control connections at random bytes while transfers and calls go on: no call fails, and nothing is done twice.
func testControlFaults(t *testing.T, m *machine, rng *rand.Rand) {
	p := newPlan(rng)
	p.control = anyControlFault
	m.transferAndCall(t, rng, p, 2<<20)
}

// testBothFaults has both kinds of connection break.
func testBothFaults(t *testing.T, m *machine, rng *rand.Rand) {
	p := newPlan(rng)
	p.data, p.control = anyDataFault, anyControlFault
	m.transferAndCall(t, rng, p, 5<<20)
}

// controlCuts is how many cuts of the control connection end the calls of transferAndCall.
const controlCuts = 20

// transferAndCall runs transfers, and short processes until there were enough control connections.
func (m *machine) transferAndCall(t *testing.T, rng *rand.Rand, p *plan, length int) {
	t.Helper()
	m.underPlan(t, p, func() {
		m.Machine.Device().ResetConnections() // the present one has no fault
		calling := m.callUntil(t, rng, func() bool { return p.controlConnections() > controlCuts })
		m.transferAll(t, rng, length)
		t.Logf("%d processes beside the transfers", <-calling)
	})
}

// callUntil runs short processes one after the other, until enough says so or something fails. The channel tells how many when it is done.
func (m *machine) callUntil(t *testing.T, rng *rand.Rand, enough func() bool) <-chan int {
	calls := make(chan int, 1)
	journal := fmt.Sprintf("/run/journal-%d", rng.Uint64())
	mine := rand.New(rand.NewPCG(rng.Uint64(), 4))
	go func() {
		n := 0
		for !enough() && !t.Failed() {
			m.journalled(t, journal, n, mine)
			n++
		}
		calls <- n
	}()
	return calls
}

// journalled runs a process that appends its number to a file and then writes the file's last two lines: it must have run once.
func (m *machine) journalled(t *testing.T, journal string, n int, rng *rand.Rand) {
	var out lockedBuffer
	cfg := script("echo %d >>%s; tail -n2 %[2]s", n, journal)
	cfg.Stdout = &out
	p, err := m.Client.NewProcess(cfg)
	if err != nil {
		t.Errorf("NewProcess(…) = %v; want no error", err)
		return
	}
	defer func() {
		if _, err := p.ForceDelete(deadline(t)); err != nil {
			t.Errorf("process %d: ForceDelete() = %v; want no error", n, err)
		}
	}()
	if rng.IntN(2) == 0 {
		err = p.Launch(deadline(t))
	} else if err = p.Create(deadline(t)); err == nil {
		err = p.Start(deadline(t))
	}
	if err != nil {
		t.Errorf("process %d: start = %v; want no error", n, err)
		return
	}
	status, err := p.Wait(deadline(t))
	want := fmt.Sprintf("%d\n%d\n", n-1, n)
	if n == 0 {
		want = "0\n"
	}
	if err != nil || !status.Success() || out.String() != want {
		t.Errorf("process %d: Wait() = %v, %v, output %q; want %q; the guest says %s", n, status, err, out.String(), want, m.described(p.ID()))
	}
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

// lockedBuffer is a bytes.Buffer for a Writer and a reader at the same time.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
