//go:build linux

package statistics

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// group is a directory that looks like a cgroup.
func group(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func nobody() int { return 0 }

func TestRead(t *testing.T) {
	r := &Reader{pageSizes: []string{"2MB", "1GB"}}
	got, err := r.Read(group(t, map[string]string{
		"cpu.stat":       "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\nnew_field 1\n",
		"memory.current": "4096\n", "memory.peak": "8192\n", "memory.max": "max\n", "memory.swap.current": "12\n", "memory.swap.max": "13\n",
		"memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n",
		"memory.stat":   "anon 1\nfile 2\nkernel 3\nsome_future 4\npgmajfault 18446744073709551615\n",
		"pids.current":  "3\n", "pids.max": "100\n",
		"io.stat":             "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:0 \n",
		"cpu.pressure":        "some avg10=0.12 avg60=99.99 avg300=100.00 total=1000\nfull avg10=0.00 avg60=0.01 avg300=0.00 total=7\n",
		"hugetlb.2MB.current": "2097152\n", "hugetlb.2MB.max": "max\n", "hugetlb.2MB.events": "max 8\n",
	}), nobody)
	if err != nil || got.ReadAt == 0 {
		t.Fatalf("Read() = %v, %v; want no error, and the time", got, err)
	}
	got.ReadAt = 0
	want := &pb.ContainerStatistics{
		Cpu: &pb.CPUStatistics{Usage: 7000, User: 4000, System: 3000, Periods: 9, ThrottledPeriods: 2, Throttled: 5000},
		Memory: &pb.MemoryStatistics{
			Current: 4096, Peak: 8192, Limit: math.MaxUint64, Swap: 12, SwapLimit: 13,
			LowEvents: 1, HighEvents: 2, MaxEvents: 3, OomEvents: 4, OomKills: 5,
			Anon: 1, File: 2, Kernel: 3, MajorPageFaults: math.MaxUint64,
		},
		Pids: 3, PidsLimit: 100,
		Io: []*pb.IOStatistics{{Major: 8, Minor: 16, ReadBytes: 1, WrittenBytes: 2, Reads: 3, Writes: 4, DiscardedBytes: 5, Discards: 6}},
		CpuPressure: &pb.Pressure{
			Some: &pb.Stall{Total: 1_000_000, Avg10: 12, Avg60: 9999, Avg300: 10000}, Full: &pb.Stall{Total: 7000, Avg60: 1},
		},
		Hugetlb: []*pb.HugetlbStatistics{{PageSize: "2MB", Current: 2 << 20, Limit: math.MaxUint64, MaxEvents: 8}},
	}
	if !got.EqualVT(want) {
		t.Errorf("Read() = %+v; want %+v", got, want)
	}
}

// TestReadBounds has files that no kernel would write: what is told of them is bounded.
func TestReadBounds(t *testing.T) {
	var devices strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&devices, "8:%d rbytes=1\n", i)
	}
	got, err := NewReader().Read(group(t, map[string]string{
		"io.stat": devices.String(), "cpu.stat": "usage_usec\n\n \nuser_usec -1\nsystem_usec x\n", "memory.max": "", "cpu.pressure": "\n\nsome\nfull avg10 avg60=\n",
	}), nobody)
	if err != nil || len(got.Io) != protocol.MaxStatisticsEntries {
		t.Errorf("Read() = %d devices, %v; want %d", len(got.GetIo()), err, protocol.MaxStatisticsEntries)
	}
	if got.Memory.Limit != math.MaxUint64 || got.PidsLimit != math.MaxUint64 {
		t.Errorf("limits = %d, %d; want none", got.Memory.Limit, got.PidsLimit)
	}
	if _, err := NewReader().Read(filepath.Join(t.TempDir(), "gone"), nobody); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read() of no cgroup = %v; want fs.ErrNotExist", err)
	}
}

// TestReadNetworks reads this process's own interfaces, and none of a process that goes away meanwhile.
func TestReadNetworks(t *testing.T) {
	dir := group(t, nil)
	got, err := NewReader().Read(dir, os.Getpid)
	if err != nil || len(got.Networks) == 0 || got.Networks[0].Name == "" {
		t.Errorf("Read() = %v, %v; want this process's interfaces", got, err)
	}
	asked := 0
	got, err = NewReader().Read(dir, func() int {
		if asked++; asked > 1 {
			return 0
		}
		return os.Getpid()
	})
	if err != nil || len(got.Networks) != 0 {
		t.Errorf("Read() for a process that goes away = %v, %v; want no interfaces", got, err)
	}
}

// TestReadLeavesNothingOpen reads often.
func TestReadLeavesNothingOpen(t *testing.T) {
	dir, r := group(t, map[string]string{"cpu.stat": "usage_usec 1\n"}), NewReader()
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := open()
	for range 100 {
		if _, err := r.Read(dir, unix.Getpid); err != nil {
			t.Fatal(err)
		}
	}
	if after := open(); after != before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}
