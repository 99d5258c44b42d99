package faults

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// actionName names what can go wrong with a connection.
func actionName(a vsockdev.FaultAction) string {
	return map[vsockdev.FaultAction]string{
		vsockdev.FaultReset: "reset", vsockdev.FaultClose: "close", vsockdev.FaultHalfClose: "half-close", vsockdev.FaultStall: "stall",
	}[a]
}

func directionName(d vsockdev.Direction) string {
	if d == vsockdev.HostToGuest {
		return "host-to-guest"
	}
	return "guest-to-host"
}

// plan decides which faults the connections get that are made while it is set.
type plan struct {
	// data and control give the faults of the next connection. Nil: none.
	data, control func(rng *rand.Rand) []vsockdev.Fault

	mu          sync.Mutex
	rng         *rand.Rand
	dataSeen    int
	controlSeen int
	recent      []string // the latest faults, for a failing test's log
}

// recentFaults is how many faults a failing test's log has.
const recentFaults = 20

func newPlan(rng *rand.Rand) *plan {
	return &plan{rng: rand.New(rand.NewPCG(rng.Uint64(), 2))}
}

// faults is called by the device for each new connection.
func (p *plan) faults(info vsockdev.ConnInfo) []vsockdev.Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	decide, seen, kind := p.data, &p.dataSeen, "data"
	if info.Dialed {
		decide, seen, kind = p.control, &p.controlSeen, "control"
	}
	number := *seen
	*seen++
	if decide == nil {
		return nil
	}
	faults := decide(p.rng)
	for _, f := range faults {
		p.recent = append(p.recent, fmt.Sprintf("%s %d: %s %s at %d", kind, number, actionName(f.Action), directionName(f.Direction), f.At))
	}
	p.recent = p.recent[max(0, len(p.recent)-recentFaults):]
	return faults
}

// stall is a stall that ends by itself.
func stall(rng *rand.Rand, d vsockdev.Direction, at uint64) vsockdev.Fault {
	return vsockdev.Fault{Direction: d, At: at, Action: vsockdev.FaultStall, Gate: stallFor(time.Duration(logUniform(rng, 1e6, 5e8)))}
}

// stallFor gives a gate that opens after some time.
func stallFor(d time.Duration) *vsockdev.Gate {
	gate := new(vsockdev.Gate)
	time.AfterFunc(d, gate.Open)
	return gate
}

func (p *plan) controlConnections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.controlSeen
}

func (p *plan) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%d data and %d control connections, the latest faults: %s", p.dataSeen, p.controlSeen, strings.Join(p.recent, "; "))
}

// logUniform gives a number from low up to high, where each order of magnitude is as likely as the others.
func logUniform(rng *rand.Rand, low, high float64) float64 {
	return low * math.Pow(high/low, rng.Float64())
}

// cuts are the actions that end a connection, or one direction of it.
var cuts = []vsockdev.FaultAction{vsockdev.FaultReset, vsockdev.FaultClose, vsockdev.FaultHalfClose}

// anyFaults is a cut at a place that the function chooses for a direction, and often a stall at another.
func anyFaults(rng *rand.Rand, at func(vsockdev.Direction) uint64) []vsockdev.Fault {
	d := vsockdev.Direction(rng.IntN(2))
	faults := []vsockdev.Fault{{Direction: d, At: at(d), Action: cuts[rng.IntN(len(cuts))]}}
	if rng.IntN(3) == 0 {
		d := vsockdev.Direction(rng.IntN(2))
		faults = append(faults, stall(rng, d, at(d)))
	}
	return faults
}

// anyDataFault cuts every data connection: in the preamble, in the accept record, in the first chunks or records, or somewhere in
// the megabyte behind.
func anyDataFault(rng *rand.Rand) []vsockdev.Fault {
	return anyFaults(rng, func(d vsockdev.Direction) uint64 {
		greeting := protocol.PreambleSize
		if d == vsockdev.HostToGuest {
			greeting = protocol.AcceptSize
		}
		switch rng.IntN(8) {
		case 0:
			return uint64(rng.IntN(greeting + 1))
		case 1:
			return uint64(greeting + rng.IntN(4*protocol.RecordSize))
		}
		return uint64(logUniform(rng, float64(greeting), 1<<20))
	})
}

// anyControlFault cuts every control connection somewhere in its hello or its first calls, or a while later.
func anyControlFault(rng *rand.Rand) []vsockdev.Fault {
	return anyFaults(rng, func(vsockdev.Direction) uint64 { return uint64(logUniform(rng, 10, 20_000)) })
}
