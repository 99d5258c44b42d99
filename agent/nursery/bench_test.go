//go:build linux

package nursery

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The benchmarks compare Spawn and wait with a plain fork, exec and wait of the same program by this Go program, interleaved, since the speed of an emulated machine drifts.

const program = "/bin/true"

func spawnOnce(tb testing.TB, n *Nursery, req *Request) {
	c, err := n.Spawn(tb.Context(), req)
	if err != nil {
		tb.Error(err)
		return
	}
	if s := <-c.Exited; s.Code != 0 {
		tb.Errorf("status = %v; want success", s)
	}
	c.PIDFD.Close()
}

func forkOnce(tb testing.TB, path string, sys *syscall.SysProcAttr) {
	pid, err := syscall.ForkExec(path, []string{program}, &syscall.ProcAttr{Env: []string{boxPath}, Files: []uintptr{0, 1, 2}, Sys: sys})
	if err != nil {
		tb.Error(err)
		return
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		tb.Error(err)
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func BenchmarkExec(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for _, v := range []struct {
		name string
		user bool
		out  bool
	}{{name: "outside", out: true}, {name: "container"}, {name: "userns", user: true}} {
		for _, workers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/%d", v.name, workers), func(b *testing.B) {
				n := startNursery(b, Config{})
				req := Request{Args: []string{program}, Env: []string{boxPath}, Stdio: [3]*os.File{null, null, null}}
				if !v.out {
					box := newBox(b, boxOptions{user: v.user})
					req.Init, req.Cgroup = box.init, box.cgroup
				}
				compare(b, workers, func() { forkOnce(b, program, nil) }, func() { spawnOnce(b, n, &req) })
			})
		}
	}
}

// compare runs both sides in turns, each by so many workers at once, and reports the medians of the time per run.
func compare(b *testing.B, workers int, plain, spawn func()) {
	var times [2][]time.Duration
	for b.Loop() {
		for side, f := range [2]func(){plain, spawn} {
			start := time.Now()
			var wg sync.WaitGroup
			for range workers {
				wg.Go(f)
			}
			wg.Wait()
			times[side] = append(times[side], time.Since(start)/time.Duration(workers))
		}
	}
	p, s := median(times[0]), median(times[1])
	b.ReportMetric(float64(p)/1e6, "fork-ms")
	b.ReportMetric(float64(s)/1e6, "spawn-ms")
	b.ReportMetric(float64(s)/float64(p), "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkParallel compares processes that start at once in one container, each, with one alone.
func BenchmarkParallel(b *testing.B) {
	const together = 8
	n := startNursery(b, Config{})
	box := newBox(b, boxOptions{})
	req := box.in(program)
	var one, each []time.Duration
	for b.Loop() {
		start := time.Now()
		spawnOnce(b, n, &req)
		one = append(one, time.Since(start))
		start = time.Now()
		var wg sync.WaitGroup
		for range together {
			wg.Go(func() { spawnOnce(b, n, &req) })
		}
		wg.Wait()
		each = append(each, time.Since(start)/together)
	}
	o, e := median(one), median(each)
	b.ReportMetric(float64(o)/1e6, "alone-ms")
	b.ReportMetric(float64(e)/1e6, "each-ms")
	b.ReportMetric(float64(e)/float64(o), "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkContainerFile shows what it costs a plain fork to run a container's copy of the program in the container's cgroup, whose memory is accounted for: no part of this is the
// nursery's.
func BenchmarkContainerFile(b *testing.B) {
	box := newBox(b, boxOptions{})
	sys := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(box.cgroup.Fd())}
	path := fmt.Sprintf("/proc/%d/root/bin/busybox", box.pid)
	compare(b, 1, func() { forkOnce(b, program, nil) }, func() { forkOnce(b, path, sys) })
}

// BenchmarkFull is an exec with all that Docker's default asks for.
func BenchmarkFull(b *testing.B) {
	n := startNursery(b, Config{})
	box := newBox(b, boxOptions{})
	req := box.in(program)
	req.UID, req.GID, req.Groups = 1000, 1000, []uint32{10, 20}
	req.Capabilities = &Capabilities{Bounding: 0xa80425fb}
	req.NoNewPrivs, req.Keyring, req.Cwd = true, "_ses.bench", "/tmp"
	compare(b, 1, func() { forkOnce(b, program, nil) }, func() { spawnOnce(b, n, &req) })
}
