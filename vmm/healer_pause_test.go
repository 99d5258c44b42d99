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
	looks atomic.Int32 // how often the registers were asked for
}

func (q *fakeQEMU) say(message string) { fmt.Fprintln(q.Conn, message) }

// serve runs until the connection ends.
func (q *fakeQEMU) serve() {
	q.say(`{"QMP": {"version": {"qemu": {"major": 7, "minor": 2}}}}`)
	for commands := json.NewDecoder(q.Conn); ; {
		var c qmpCommand
		if commands.Decode(&c) != nil {
			return
		}
		if line, _ := c.Arguments["command-line"].(string); strings.HasPrefix(line, "info registers") {
			q.looks.Add(1)
		}
		q.say(fmt.Sprintf(`{"return": "", "id": %d}`, c.ID))
	}
}

// TestHealerPause has a machine be paused and go on.
func TestHealerPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		memory, _ := net.Pipe()
		q := &fakeQEMU{Conn: theirs}
		m := newMonitor(ours)
		h := newHealer(m, memory, slog.New(slog.DiscardHandler))
		go q.serve()
		looks := func() int32 {
			before := q.looks.Load()
			time.Sleep(4 * lookInterval)
			synctest.Wait()
			return q.looks.Load() - before
		}
		if n := looks(); n == 0 {
			t.Error("nobody looks at a machine that runs")
		}
		q.say(`{"event": "STOP"}`)
		synctest.Wait()
		if n := looks(); n != 0 {
			t.Errorf("%d looks at a machine that is paused; want none", n)
		}
		q.say(`{"event": "RESUME"}`)
		if n := looks(); n == 0 {
			t.Error("nobody looks at a machine that runs again")
		}
		theirs.Close()
		m.drain()
		h.drain()
	})
}
