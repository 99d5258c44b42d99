package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// sizeFigures are sizes in MB (1,000,000 bytes).
func sizeFigures() []figure {
	return []figure{
		{"agent-mb", "<=8", agentSize},
		{"initramfs-mb", "<=5", initramfsSize},
		{"idle-mb", "<=12", idleMemory},
	}
}

func agentSize(ctx context.Context, b *bench) (float64, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return 0, err
	}
	return fileMB(vm.Guest.Agent)
}

// initramfsSize is that of agent and modules, without anything that the benchmark adds.
func initramfsSize(ctx context.Context, b *bench) (float64, error) {
	path, err := b.plainInitrd(ctx)
	if err != nil {
		return 0, err
	}
	return fileMB(path)
}

func fileMB(path string) (float64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return float64(st.Size()) / 1e6, nil
}

var pssLine = regexp.MustCompile(`(?m)^Pss:\s+(\d+) kB$`)

// idleMemory is the proportional set size of PID 1, the agent, and the agent's own children, when nothing runs but the process that reads it.
func idleMemory(ctx context.Context, b *bench) (float64, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return 0, err
	}
	info, err := vm.Client.Info(ctx)
	if err != nil {
		return 0, err
	}
	script := fmt.Sprintf(`cd /proc; cat 1/smaps_rollup %d/smaps_rollup; for p in $(cat %[1]d/task/*/children); do [ $p = $$ ] || cat $p/smaps_rollup; done`, info.AgentPid)
	cmd := vm.Client.Command(ctx, busybox, "sh", "-c", script)
	cmd.Env = []string{"PATH=" + busyboxDir}
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	found := pssLine.FindAllSubmatch(bytes.TrimSpace(out), -1)
	if len(found) < 2 {
		return 0, fmt.Errorf("unexpected smaps_rollup: %q", out)
	}
	total := 0.0
	for _, m := range found {
		kb, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, err
		}
		total += kb * 1024
	}
	return total / 1e6, nil
}
