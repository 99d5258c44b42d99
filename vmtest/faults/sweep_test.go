package faults

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

const (
	// sweptLength is the bytes of a stream so short that its connection can be cut everywhere, and sweptSize what they and their end take on the wire.
	sweptLength = 5
	sweptSize   = protocol.ChunkHeaderSize + sweptLength + protocol.EndSize

	// sweepers is how many processes at a time go through the faults.
	sweepers = 4
)

// testSweep cuts a connection at every byte: of the preamble, of the accept record, of a chunk, of the end, of the records and of the end-acked, with every action. A
// connection that replaces one that was cut gets the next fault, so reattaching is cut too.
func testSweep(t *testing.T, m *machine, rng *rand.Rand) {
	const from, to = vsockdev.GuestToHost, vsockdev.HostToGuest
	for _, tt := range []struct {
		kind  string
		sizes map[vsockdev.Direction]int // of all that can be on the wire
	}{
		{"out", map[vsockdev.Direction]int{from: protocol.PreambleSize + sweptSize, to: protocol.AcceptSize + 2*protocol.RecordSize}},
		{"sum", map[vsockdev.Direction]int{from: protocol.PreambleSize + 2*protocol.RecordSize, to: protocol.AcceptSize + sweptSize}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			faults := everyFault(rng, tt.sizes)
			t.Logf("%d faults", len(faults))
			m.sweep(t, rng, tt.kind, faults)
		})
	}
}

// everyFault gives every action at every byte, in random order.
func everyFault(rng *rand.Rand, sizes map[vsockdev.Direction]int) []vsockdev.Fault {
	var all []vsockdev.Fault
	for _, d := range []vsockdev.Direction{vsockdev.HostToGuest, vsockdev.GuestToHost} {
		for at := range uint64(sizes[d] + 1) {
			for _, a := range cuts {
				all = append(all, vsockdev.Fault{Direction: d, At: at, Action: a})
			}
			all = append(all, vsockdev.Fault{Direction: d, At: at, Action: vsockdev.FaultStall})
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// sweep runs processes until every fault was given to a connection.
func (m *machine) sweep(t *testing.T, rng *rand.Rand, kind string, faults []vsockdev.Fault) {
	var mu sync.Mutex
	left := slices.Clone(faults)
	take := func(rng *rand.Rand) []vsockdev.Fault {
		mu.Lock()
		defer mu.Unlock()
		if len(left) == 0 {
			return nil
		}
		f := left[0]
		left = left[1:]
		if f.Action == vsockdev.FaultStall {
			f = stall(rng, f.Direction, f.At)
		}
		return []vsockdev.Fault{f}
	}
	more := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(left) > 0 && !t.Failed()
	}
	p := newPlan(rng)
	p.data = take
	defer m.inject(p)()
	var wg sync.WaitGroup
	for range sweepers {
		mine := rand.New(rand.NewPCG(rng.Uint64(), 3))
		wg.Go(func() {
			for more() {
				if x := m.transfer(t, mine, kind, sweptLength); x != nil {
					x.run()
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.Log(p)
	}
}
