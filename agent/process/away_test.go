package process

import (
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestHostStaysAway has hosts leave processes alone for less and for more than the processes' time.
func TestHostStaysAway(t *testing.T) {
	const bound = time.Minute
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		start   bool
		leave   func(*Table)
		killed  bool
		deleted bool
	}{
		{"for too long", bound, true, func(table *Table) { table.HostAway(); time.Sleep(bound + 1) }, true, false},
		{"for too long before the start", bound, false, func(table *Table) { table.HostAway(); time.Sleep(bound + 1) }, false, true},
		{"not for too long", bound, true, func(table *Table) { table.HostAway(); time.Sleep(bound - 1); table.HostBack(); time.Sleep(bound) }, false, false},
		{"again and again", bound, true, func(table *Table) {
			for range 3 {
				table.HostAway()
				time.Sleep(bound - 1)
				table.HostBack()
			}
		}, false, false},
		{"for ever, which it may", 0, true, func(table *Table) { table.HostAway(); time.Sleep(1000 * time.Hour) }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table, task := newTable(), new(fakeTask)
				p := add(t, table, Config{ID: "p", AwayTimeout: tt.timeout}, task)
				if tt.start {
					if _, err := p.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				tt.leave(table)
				synctest.Wait()
				if got := slices.Contains(task.signals, syscall.SIGKILL); got != tt.killed {
					t.Errorf("killed: %v; want %v", got, tt.killed)
				}
				if got := p.Deleted(); got != tt.deleted {
					t.Errorf("deleted: %v; want %v", got, tt.deleted)
				}
			})
		})
	}
}

// TestCreatedWhileAway commits a process when its host has gone already.
func TestCreatedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable()
		table.HostAway()
		p := add(t, table, Config{ID: "p", AwayTimeout: time.Second}, new(fakeTask))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !p.Deleted() {
			t.Error("the process lives on; want it deleted")
		}
	})
}
