//go:build linux

package extruntime

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// strayTick is how often the children of a keeper are looked for: an orphan becomes one when its parent has died.
const strayTick = 20 * time.Millisecond

// clear ends a keeper whose command failed, with all that the command left: a keeper that has reported a failure ends with its last child. Nothing of it is left, but for processes that do
// not die of SIGKILL within the bound, which go to PID 1.
func (k *keeper) clear(log *slog.Logger) {
	defer k.close()
	bound := time.NewTimer(endBound)
	defer bound.Stop()
	tick := time.NewTicker(strayTick)
	defer tick.Stop()
	for {
		k.killChildren()
		select {
		case <-k.reaped:
			return
		case <-tick.C:
		case <-bound.C:
			log.Error("what a runtime's failed command left does not die", "children", childrenOf(k.pid))
			k.kill()
			return
		}
	}
}

func (k *keeper) killChildren() {
	for _, pid := range childrenOf(k.pid) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// The pidfd holds whoever has the pid now; a child of the keeper's is the right one.
		if parentOf(pid) == k.pid {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
}

// childrenOf lists the children of a process with one thread, proc(5); none if it is gone.
func childrenOf(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, s := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(s); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// parentOf gives the parent of a process, 0 if it is gone.
func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "PPid:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}
