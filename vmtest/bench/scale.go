package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

const (
	stallProcesses = 20
	stallBytes     = 20 << 20

	idleProcesses = 1000
	idleBytes     = 2 << 20

	leakExecs  = 10000
	leakWarmUp = 2000 // until pools are filled and the runtime has all the threads that it is going to have
)

// scaleFigures are about many processes.
func scaleFigures() []figure {
	return []figure{
		{"stall", ">=0.9", func(ctx context.Context, b *bench) (float64, error) {
			return b.compare(ctx, "MiB/s of 20 processes with a stalled reader beside them, against without", withStalled, twentyWriters)
		}},
		{"process-kb", "<=64", processMemory},
		{"leak", "<=0", leak},
	}
}

// twentyWriters is the rate at which processes that write at the same time are read. Each output is known, so a byte that is missing or wrong is an error.
func twentyWriters(ctx context.Context, vm *vmtest.VM) (float64, error) {
	want := sha256.Sum256(bytes.Repeat([]byte{'x'}, stallBytes))
	start := time.Now()
	var g errgroup.Group
	for range stallProcesses {
		g.Go(func() error {
			sum := sha256.New()
			cmd := vm.Client.Command(ctx, loadPath, "out", strconv.Itoa(stallBytes), strconv.Itoa(blockSize))
			cmd.Stdout = sum
			if err := cmd.Run(); err != nil {
				return err
			}
			return sameSum(sum, want)
		})
	}
	err := g.Wait()
	return mibPerSecond(stallProcesses*stallBytes, time.Since(start)), err
}

func sameSum(got hash.Hash, want [sha256.Size]byte) error {
	if !bytes.Equal(got.Sum(nil), want[:]) {
		return errors.New("the output is not what the process wrote")
	}
	return nil
}

// withStalled is twentyWriters beside a process whose output nobody takes.
func withStalled(ctx context.Context, vm *vmtest.VM) (rate float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stall := &stalled{begun: make(chan struct{}), end: make(chan struct{})}
	cmd := vm.Client.Command(ctx, loadPath, "out", strconv.Itoa(stallBytes), strconv.Itoa(blockSize))
	cmd.Stdout = stall
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	<-stall.begun
	rate, err = twentyWriters(ctx, vm)
	close(stall.end)
	return rate, errors.Join(err, cmd.Wait())
}

// stalled is a writer that takes nothing until end is closed.
type stalled struct {
	begun, end chan struct{}
	once       bool
}

func (s *stalled) Write(p []byte) (int, error) {
	if !s.once {
		s.once = true
		close(s.begun)
	}
	<-s.end
	return len(p), nil
}

// processMemory is what a process that is alive and idle costs the agent and its helper, in KiB: their proportional set size and kernel stacks.
func processMemory(ctx context.Context, b *bench) (float64, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return 0, err
	}
	before, err := agentUse(ctx, vm)
	if err != nil {
		return 0, err
	}
	stop, err := startIdle(ctx, vm)
	if err != nil {
		return 0, err
	}
	after, err := agentUse(ctx, vm)
	if err != nil {
		return 0, errors.Join(err, stop())
	}
	fmt.Fprintf(b.log, "bench: process-kb: agent and helper use %.0f KiB with %d idle processes, %.0f without\n", after.kib, idleProcesses, before.kib)
	return (after.kib - before.kib) / idleProcesses, stop()
}

// startIdle starts processes, each of which writes idleBytes and then waits for its input to end.
func startIdle(ctx context.Context, vm *vmtest.VM) (stop func() error, err error) {
	var cmds []*hostclient.Cmd
	var inputs []io.Closer
	stop = func() error {
		var errs []error
		for _, in := range inputs {
			errs = append(errs, in.Close())
		}
		for _, cmd := range cmds {
			errs = append(errs, cmd.Wait())
		}
		return errors.Join(errs...)
	}
	for range idleProcesses {
		cmd := vm.Client.Command(ctx, busybox, "sh", "-c", fmt.Sprintf("%s out %d %d; read line; true", loadPath, idleBytes, blockSize))
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		moved := &counter{want: idleBytes, all: make(chan struct{})}
		cmd.Stdout = moved
		if err := cmd.Start(); err != nil {
			return nil, errors.Join(err, stop())
		}
		cmds, inputs = append(cmds, cmd), append(inputs, in)
		select {
		case <-moved.all:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), stop())
		}
	}
	return stop, nil
}

// counter closes all when want bytes were written to it.
type counter struct {
	n, want int
	all     chan struct{}
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	if c.n == c.want {
		close(c.all)
	}
	return len(p), nil
}

// use is what the agent and its children that are no processes of anybody's hold.
type use struct {
	kib                   float64 // proportional set size and kernel stacks
	fds, threads, zombies int
}

// agentScript prints a line for each of PID 1, the agent and the agent's helper: PSS in KiB, threads, open files. Then the number of zombies.
const agentScript = `cd /proc
for p in 1 $1 $(grep -l '^bellhop-nursery' [0-9]*/cmdline 2>/dev/null | cut -d/ -f1); do
	echo "use $(sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' $p/smaps_rollup) $(sed -n 's/^Threads:\t//p' $p/status) $(ls $p/fd | wc -l)"
done
echo "zombies $(grep -l '^State:.Z' [0-9]*/status 2>/dev/null | wc -l)"
`

// kernelStack is what a thread costs in the kernel of x86-64, in KiB (THREAD_SIZE).
const kernelStack = 16

func agentUse(ctx context.Context, vm *vmtest.VM) (u use, err error) {
	info, err := vm.Client.Info(ctx)
	if err != nil {
		return use{}, err
	}
	cmd := vm.Client.Command(ctx, busybox, "sh", "-c", agentScript, "sh", strconv.Itoa(info.AgentPid))
	cmd.Env = []string{"PATH=" + busyboxDir}
	out, err := cmd.Output()
	if err != nil {
		return use{}, err
	}
	lines := 0
	for line := range strings.Lines(string(out)) {
		var pss, threads, fds, zombies int
		if n, _ := fmt.Sscanf(line, "use %d %d %d", &pss, &threads, &fds); n == 3 {
			lines++
			u.kib += float64(pss + threads*kernelStack)
			u.threads += threads
			u.fds += fds
		}
		if n, _ := fmt.Sscanf(line, "zombies %d", &zombies); n == 1 {
			u.zombies = zombies
		}
	}
	if lines != 3 {
		return use{}, fmt.Errorf("expected three processes of the agent's, found %d: %q", lines, out)
	}
	return u, nil
}

// leak is what execs one after the other leave behind, on both sides: open files, goroutines of the host, threads of the guest, zombies.
func leak(ctx context.Context, b *bench) (float64, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return 0, err
	}
	execs := func(n int) error {
		for range n {
			if err := vm.Client.Command(ctx, busybox, "true").Run(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := execs(leakWarmUp); err != nil {
		return 0, err
	}
	before, err := leakable(ctx, vm)
	if err != nil {
		return 0, err
	}
	if err := execs(leakExecs); err != nil {
		return 0, err
	}
	after, err := leakable(ctx, vm)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(b.log, "bench: leak: [host files, host goroutines, guest files, guest threads, zombies] %v, after %d execs %v\n", before, leakExecs, after)
	growth := 0
	for i := range before {
		growth += max(0, after[i]-before[i])
	}
	return float64(growth), nil
}

func leakable(ctx context.Context, vm *vmtest.VM) ([5]int, error) {
	guest, err := agentUse(ctx, vm)
	if err != nil {
		return [5]int{}, err
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return [5]int{}, err
	}
	return [5]int{len(files), runtime.NumGoroutine(), guest.fds, guest.threads, guest.zombies}, nil
}
