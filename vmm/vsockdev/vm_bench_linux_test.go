package vsockdev_test

import (
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// BenchmarkGuest measures the device under a real guest. All figures are medians of rounds in one VM, interleaved, so that
// they may be compared with each other: in particular with a pipe between two processes of the same guest.
//
//	go test ./vmm/vsockdev -run '^$' -bench Guest -benchtime 7x
func BenchmarkGuest(b *testing.B) {
	g := startGuest(b, nil)
	figures := []struct {
		name, unit string
		measure    func() float64
	}{
		{"out-64k", "MiB/s", func() float64 { return g.out(96<<20, 64<<10) }},
		{"pipe-64k", "MiB/s", func() float64 { return g.pipe(96<<20, 64<<10) }},
		{"in-64k", "MiB/s", func() float64 { return g.inward(96<<20, 64<<10) }},
		{"out-4k", "MiB/s", func() float64 { return g.out(24<<20, 4<<10) }},
		{"pipe-4k", "MiB/s", func() float64 { return g.pipe(24<<20, 4<<10) }},
		{"in-4k", "MiB/s", func() float64 { return g.inward(24<<20, 4<<10) }},
		{"connect", "conn/s", func() float64 { return g.connects(1000) }},
		{"pingpong-p50", "ms", func() float64 { return g.pingPong(1000) }},
		{"cpu-out-64k", "cores", func() float64 { return cpuShare(func() { g.out(96<<20, 64<<10) }) }},
		{"cpu-in-64k", "cores", func() float64 { return cpuShare(func() { g.inward(96<<20, 64<<10) }) }},
	}
	values := make([][]float64, len(figures))
	for b.Loop() {
		for i, f := range figures {
			values[i] = append(values[i], f.measure())
		}
	}
	for i, f := range figures {
		slices.Sort(values[i])
		b.ReportMetric(values[i][len(values[i])/2], f.name+"-"+f.unit)
		b.Logf("%-12s %8.2f %s (%.2f to %.2f)", f.name, values[i][len(values[i])/2], f.unit, values[i][0], values[i][len(values[i])-1])
	}
	b.Logf("%+v", g.vm.Device().Stats())
}

// start runs a command for a benchmark, which closes the connection itself.
func (g *guest) start(format string, args ...any) *vsockdev.Conn {
	g.t.Helper()
	c, err := g.tryCommand(format, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

func mibPerSecond(n int, took time.Duration) float64 { return float64(n) / (1 << 20) / took.Seconds() }

// out measures guest to host, from the first byte on.
func (g *guest) out(n, block int) float64 {
	c := g.start("blast %d %d", n, block)
	defer c.Close()
	buf := make([]byte, 256<<10)
	k, err := io.ReadFull(c, buf[:1])
	start := time.Now()
	for err == nil {
		var m int
		m, err = c.Read(buf)
		k += m
	}
	if k != n || err != io.EOF {
		g.t.Fatalf("read %d of %d bytes: %v", k, n, err)
	}
	return mibPerSecond(n, time.Since(start))
}

// inward measures host to guest, until the guest's process has read everything.
func (g *guest) inward(n, block int) float64 {
	c := g.start("swallow %d %d", n, max(block, 64<<10))
	defer c.Close()
	buf := make([]byte, block)
	start := time.Now()
	for at := 0; at < n; at += block {
		if _, err := c.Write(buf); err != nil {
			g.t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		g.t.Fatal(err)
	}
	return mibPerSecond(n, time.Since(start))
}

// pipe measures a pipe between two processes in the guest.
func (g *guest) pipe(n, block int) float64 {
	c := g.start("pipe %d %d", n, block)
	defer c.Close()
	ns, _ := g.answer(c)
	return mibPerSecond(n, time.Duration(ns))
}

// connects measures how many connections a second the guest can make and close.
func (g *guest) connects(n int) float64 {
	l, err := g.vm.Listen(7100)
	if err != nil {
		g.t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	}()
	c := g.start("dial 7100 %d", n)
	defer c.Close()
	failed, ns := g.answer(c)
	if failed != 0 {
		g.t.Fatalf("%d connects failed", failed)
	}
	return float64(n) / time.Duration(ns).Seconds()
}

// pingPong returns the median round trip of 64 bytes, in milliseconds.
func (g *guest) pingPong(n int) float64 {
	c := g.start("echo")
	defer c.Close()
	var buf [64]byte
	times := make([]time.Duration, n)
	for i := range times {
		start := time.Now()
		if _, err := c.Write(buf[:]); err != nil {
			g.t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf[:]); err != nil {
			g.t.Fatal(err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return float64(times[n/2]) / float64(time.Millisecond)
}

// cpuShare returns how many cores this process, with the device and the benchmark's end of the connection, kept busy.
func cpuShare(f func()) float64 {
	start, before := time.Now(), cpuTime()
	f()
	return (cpuTime() - before).Seconds() / time.Since(start).Seconds()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("getrusage: %v", err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
