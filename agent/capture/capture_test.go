//go:build linux

package capture

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCapture captures more than is kept, and what a process that lives on holds open.
func TestCapture(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c.Write, strings.Repeat("z", 10*Max)); err != nil {
		t.Fatal(err)
	}
	if got := len(c.Finish()); got != Max {
		t.Errorf("captured %d bytes; want %d", got, Max)
	}
	if c, err = New(); err != nil {
		t.Fatal(err)
	}
	held, err := unix.Dup(int(c.Write.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(held)
	if _, err := io.WriteString(c.Write, "said"); err != nil {
		t.Fatal(err)
	}
	if got := string(c.Finish()); got != "said" {
		t.Errorf("captured %q; want what was said", got)
	}
}
