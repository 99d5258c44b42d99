package faults

import (
	"math/rand/v2"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
	"github.com/bellhop-vm/bellhop/vmtest"
)

const (
	crowdMemory  = 512 << 20
	crowdWriters = 1000
	crowdReaders = 20 // how many are read in the end

	// crowdReceive is the device's receive buffer in bytes: smaller than usual, so that a crowd needs less of the host.
	crowdReceive = 32 << 10

	// crowdBudget is the rings' part of the guest's memory (SPEC 9).
	crowdBudget = crowdMemory / 8

	// crowdPerStream is what the agent may need for a process beside the ring's bytes, and crowdPerHost what the host may need for one beside the receive buffer.
	crowdPerStream, crowdPerHost = 64 << 10, 64 << 10
)

// TestCrowd has a thousand processes write megabytes, and nobody read: the memory of agent and host stays within its bounds, the machine goes on
// serving others, and a stream is whole when its reader comes back.
func TestCrowd(t *testing.T) {
	m := startMachine(t, vmtest.Memory(crowdMemory), vmtest.Machine(func(c *vmm.Config) {
		c.DeviceConfig = &vsockdev.Config{ReceiveBuffer: crowdReceive}
	}))
	agentBefore, hostBefore := m.agentMemory(t), heap()
	writers := m.crowd(t)
	t.Cleanup(func() { disperse(t, writers) })
	m.awaitStill(t)

	agent, host := m.agentMemory(t)-agentBefore, heap()-hostBefore
	t.Logf("%d writers and no reader: the agent has grown by %d KiB, the host's heap by %d KiB", crowdWriters, agent>>10, host>>10)
	if limit := crowdBudget + crowdWriters*crowdPerStream; agent > limit {
		t.Errorf("the agent has grown by %d bytes; want at most %d", agent, limit)
	}
	if limit := crowdWriters * (crowdReceive + crowdPerHost); host > limit {
		t.Errorf("the host's heap has grown by %d bytes; want at most %d", host, limit)
	}
	if kills := m.root(t, "grep ^oom_kill /proc/vmstat"); kills != "oom_kill 0\n" {
		t.Errorf("the guest says %q; want no kill for want of memory", kills)
	}
	t.Logf("the guest's memory: %s", m.root(t, "grep -E 'MemTotal|MemAvailable' /proc/meminfo"))
	x := m.transfer(t, rand.New(rand.NewPCG(*seed, 5)), "cat", 1<<20)
	x.run()
	// The last ones had nothing of the budget left.
	resumed := writers[len(writers)-crowdReaders:]
	for _, w := range resumed {
		close(w.out.gate)
	}
	for _, w := range resumed {
		status, err := w.Wait(deadline(t))
		if err != nil || !status.Success() || w.out.received() != len(pattern) {
			t.Errorf("a writer whose reader came back: Wait() = %v, %v, %d bytes; want success and %d", status, err, w.out.received(), len(pattern))
		}
	}
}

// crowdWriter is a process that writes the stream without end, and its reader.
type crowdWriter struct {
	*hostclient.Process
	out *gated
}

// crowd starts the writers, a few at a time.
func (m *machine) crowd(t *testing.T) []*crowdWriter {
	t.Helper()
	const atOnce = 16
	writers := make([]*crowdWriter, crowdWriters)
	next := make(chan int, crowdWriters)
	for i := range writers {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				w := &crowdWriter{out: &gated{gate: make(chan struct{})}}
				cfg := script("exec dd if=%s bs=64k 2>/dev/null", patternFile) // cat would send the file's own pages
				cfg.Stdout = w.out
				var err error
				if w.Process, err = m.Client.NewProcess(cfg); err == nil {
					err = w.Launch(deadline(t))
				}
				if err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
				writers[i] = w
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return writers
}

// disperse ends the writers.
func disperse(t *testing.T, writers []*crowdWriter) {
	var wg sync.WaitGroup
	for _, w := range writers {
		if w == nil {
			continue
		}
		wg.Go(func() {
			if _, err := w.ForceDelete(deadline(t)); err != nil {
				t.Errorf("ForceDelete() = %v; want no error", err)
			}
		})
	}
	wg.Wait()
}

// awaitStill waits until the device carries no data towards the host any more: everything is full.
func (m *machine) awaitStill(t *testing.T) {
	t.Helper()
	last, since := uint64(0), 0
	eventually(t, "full buffers", func() bool {
		n := m.Machine.Device().Stats().BytesReceived
		if since++; n != last {
			last, since = n, 0
		}
		return since > 50
	})
}

var pssLine = regexp.MustCompile(`(?m)^Pss:\s+(\d+) kB$`)

// agentMemory is the agent's proportional set size in bytes.
func (m *machine) agentMemory(t *testing.T) int {
	t.Helper()
	info, err := m.Client.Info(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	rollup := m.root(t, "cat /proc/%d/smaps_rollup", info.AgentPid)
	found := pssLine.FindStringSubmatch(rollup)
	if found == nil {
		t.Fatalf("smaps_rollup is %q", rollup)
	}
	kib, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// heap is what this process has on its heap in bytes.
func heap() int {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int(s.HeapAlloc)
}
