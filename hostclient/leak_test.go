package hostclient

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// checkLeaks fails the test if, at its very end, goroutines of this package, of yamux or of net.Pipe's users are left. Call it first, so that its
// cleanup runs last. Tests that use it must not be parallel.
func checkLeaks(t testing.TB) {
	t.Helper()
	before := len(ourGoroutines())
	t.Cleanup(func() {
		deadline := time.Now().Add(10 * time.Second)
		for {
			left := ourGoroutines()
			if len(left) <= before {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines before the test, %d after it:\n%s", before, len(left), strings.Join(left, "\n\n"))
				return
			}
			runtime.Gosched() // they may be on their way out
		}
	})
}

// ourGoroutines gives the stacks of goroutines, other than this one, that run code of this package or yamux.
func ourGoroutines() []string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var ours []string
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] {
		if strings.Contains(stack, "testing.tRunner") {
			continue
		}
		if strings.Contains(stack, "bellhop/hostclient") || strings.Contains(stack, "hashicorp/yamux") {
			ours = append(ours, stack)
		}
	}
	return ours
}

// eventually waits for cond, which changes by what other goroutines do.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s still not: %s", what)
		}
		runtime.Gosched()
	}
}
