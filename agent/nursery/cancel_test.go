//go:build linux

package nursery

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// TestCancelledStart cancels starts at random moments. Either the program has begun, and Spawn gives its process, or it never will.
func TestCancelledStart(t *testing.T) {
	n := startNursery(t, Config{})
	b := newBox(t, boxOptions{})
	outcome := map[string]int{}
	for range 400 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		req := b.in("/bin/busybox", "echo", "ran")
		req.Env = []string{boxPath}
		req.Stdio[1] = w
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(8*time.Millisecond))))
		child, err := n.Spawn(ctx, &req)
		cancel()
		w.Close()
		text, readErr := io.ReadAll(r) // ends with the process
		r.Close()
		if readErr != nil {
			t.Fatal(readErr)
		}
		switch {
		case err != nil && len(text) > 0:
			t.Fatalf("Spawn() = %v, but the program wrote %q; want a process, or no trace of the program", err, text)
		case err == nil && string(text) != "ran\n":
			t.Fatalf("Spawn() gave a process that wrote %q; want it undisturbed", text)
		case err == nil:
			if status := finish(t, child); status.Code != 0 || status.Signal != 0 {
				t.Fatalf("the process ended with %v; want success", status)
			}
			outcome["started"]++
		default:
			outcome["cancelled"]++
		}
	}
	t.Logf("%v", outcome)
}
