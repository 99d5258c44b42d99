package vmm

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeQEMU is QEMU's end of a monitor, of a machine all of whose CPUs are halted.
type fakeQEMU struct {
	net.Conn
	mute    atomic.Bool  // it answers no more
	asked   atomic.Int32 // how many commands came
	looks   atomic.Int32 // how often the registers were asked for
	healing *healer
}

// newFakeQEMU greets with a version. The test ends it by end.
func newFakeQEMU(major, minor int) *fakeQEMU {
	ours, theirs := net.Pipe()
	memory, _ := net.Pipe()
	q := &fakeQEMU{Conn: theirs, healing: newHealer(newMonitor(ours), memory, slog.New(slog.DiscardHandler))}
	go q.serve(major, minor)
	return q
}

func (q *fakeQEMU) say(message string) { fmt.Fprintln(q.Conn, message) }

// serve runs until the connection ends.
func (q *fakeQEMU) serve(major, minor int) {
	q.say(fmt.Sprintf(`{"QMP": {"version": {"qemu": {"major": %d, "minor": %d}}}}`, major, minor))
	for commands := json.NewDecoder(q.Conn); ; {
		var c qmpCommand
		if commands.Decode(&c) != nil {
			return
		}
		q.asked.Add(1)
		if line, _ := c.Arguments["command-line"].(string); strings.HasPrefix(line, "info registers") {
			q.looks.Add(1)
		}
		if !q.mute.Load() {
			q.say(fmt.Sprintf(`{"return": "", "id": %d}`, c.ID))
		}
	}
}

// looksNow is how many looks come in the time of four, which is the bubble's and passes at once.
func (q *fakeQEMU) looksNow() int32 {
	before := q.looks.Load()
	time.Sleep(4 * lookInterval)
	synctest.Wait()
	return q.looks.Load() - before
}

// end ends QEMU, and then all that belongs to it: in a bubble, what does not end is a deadlock.
func (q *fakeQEMU) end() {
	q.Close()
	q.healing.monitor.drain()
	q.healing.drain()
}

// TestHealerPause has a machine be paused and go on.
func TestHealerPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQEMU(7, 2)
		defer q.end()
		if n := q.looksNow(); n == 0 {
			t.Error("nobody looks at a machine that runs")
		}
		q.say(`{"event": "STOP"}`)
		synctest.Wait()
		if n := q.looksNow(); n != 0 {
			t.Errorf("%d looks at a machine that is paused; want none", n)
		}
		q.say(`{"event": "RESUME"}`)
		if n := q.looksNow(); n == 0 {
			t.Error("nobody looks at a machine that runs again")
		}
	})
}

// TestHealerVersion has versions of QEMU that need no healer, and the last one that does. The first command is the monitor's own.
func TestHealerVersion(t *testing.T) {
	for version, want := range map[[2]int]bool{{8, 0}: true, {8, 1}: false, {9, 0}: false, {10, 0}: false} {
		synctest.Test(t, func(t *testing.T) {
			q := newFakeQEMU(version[0], version[1])
			defer q.end()
			if n := q.looksNow(); n > 0 != want {
				t.Errorf("QEMU %v: %d looks; want any: %v", version, n, want)
			}
			if n := q.asked.Load(); !want && n != 1 {
				t.Errorf("QEMU %v: %d commands; want qmp_capabilities alone", version, n)
			}
		})
	}
}

// TestHealerMute has a monitor that does not answer: there is one look at a time, and it ends with QEMU.
func TestHealerMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQEMU(7, 2)
		defer q.end()
		q.looksNow()
		q.mute.Store(true)
		if n := q.looksNow(); n != 1 {
			t.Errorf("%d looks; want one, which waits for its answer", n)
		}
	})
}
