package faults

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// soakLength is the most bytes that one transfer of a soak moves.
const soakLength = 256 << 20

// TestSoak goes on with everything that TestFaults does, with larger transfers and new random choices, for as long as -soak says. Each round has a seed of its own.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("set -soak=DURATION (make soak) to go on with random faults for so long")
	}
	m := startMachine(t)
	rounds := []func(*testing.T, *machine, *rand.Rand){
		soakTransfers, soakTransfers, soakTransfers, testBothFaults, testControlFaults, testResetAll, testKilledClients, testForgetfulClient,
		testBystanders, testDropOldest, testDirect,
	}
	began := time.Now()
	round := uint64(0)
	for ; time.Since(began) < *soak && !t.Failed(); round++ {
		rng := rand.New(rand.NewPCG(*seed, round))
		do := rounds[rng.IntN(len(rounds))]
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) { do(t, m, rng) }) // so that what a round cleans up is clean before the next
	}
	s := m.Machine.Device().Stats()
	t.Logf("%d rounds, %d cuts, %d connections of the guest, %d MiB from and %d MiB to the guest",
		round, s.Faults, s.Accepted, s.BytesReceived>>20, s.BytesSent>>20)
}

// soakTransfers cuts all connections during long transfers.
func soakTransfers(t *testing.T, m *machine, rng *rand.Rand) {
	p := newPlan(rng)
	p.data, p.control = anyDataFault, anyControlFault
	m.transferAndCall(t, rng, p, int(logUniform(rng, 1<<20, soakLength)))
}
