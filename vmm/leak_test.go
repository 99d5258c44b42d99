//go:build linux

package vmm

import (
	"os"
	"runtime"
	"testing"
)

// open is what a VM could leave behind in this process.
type open struct{ fds, goroutines int }

func countOpen(t *testing.T) open {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return open{fds: len(fds), goroutines: runtime.NumGoroutine()}
}
