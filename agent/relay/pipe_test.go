//go:build linux

package relay

import (
	"testing"

	"golang.org/x/sys/unix"
)

// checkPipe compares a pipe's size with what it should be.
func checkPipe(t *testing.T, when string, e *end, want int) {
	t.Helper()
	var got int
	var err error
	if cerr := e.rc.Control(func(fd uintptr) { got, err = unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if got != want {
		t.Errorf("%s the pipe has %d bytes; want %d", when, got, want)
	}
}

// TestPipeBudget has two pipes want what is enough for one.
func TestPipeBudget(t *testing.T) {
	b := NewBudget(0)
	var ends [2]*end
	for i := range ends {
		ours, theirs, err := b.pipe("stdout", true)
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		defer theirs.Close()
		ends[i] = ours
		checkPipe(t, "at first", ours, smallPipe)
		if i == 0 { // what is in it does not fit a small one
			ours.enlarge()
			if n, err := theirs.Write(make([]byte, 2*smallPipe)); n != 2*smallPipe {
				t.Fatal(err)
			}
		}
	}
	one, other := ends[0], ends[1]
	checkPipe(t, "enlarged,", one, largePipe)
	other.enlarge()
	checkPipe(t, "without a budget,", other, smallPipe)
	one.reduce()
	checkPipe(t, "reduced while it is full,", one, largePipe)
	if _, err := one.tryReadv([][]byte{make([]byte, 2*smallPipe)}); err != nil {
		t.Fatal(err)
	}
	one.reduce()
	checkPipe(t, "reduced,", one, smallPipe)
	other.enlarge()
	checkPipe(t, "after the first was reduced,", other, largePipe)
	one.enlarge()
	checkPipe(t, "in its turn without a budget,", one, smallPipe)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	other.enlarge() // and nothing happens
	one.enlarge()
	checkPipe(t, "after the other was closed,", one, largePipe)
	if left := b.pipes.Load(); left != 0 {
		t.Errorf("%d bytes of the budget are left; want 0", left)
	}
}
