//go:build linux

package cgroup

import (
	"slices"
	"testing"
)

func TestUndoing(t *testing.T) {
	for _, tt := range []struct {
		name, before, now string
		want              []string
	}{
		{"memory.max", "max\n", "4096\n", []string{"max"}},
		{"cpu.max", "max 100000\n", "1000 5000\n", []string{"max 100000"}},
		{"io.max", "", "8:0 rbps=1 wbps=max riops=max wiops=max\n", []string{"8:0 rbps=max wbps=max riops=max wiops=max"}},
		{
			"io.max", "8:16 rbps=7 wbps=max riops=max wiops=max\n", "8:1 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=9 wbps=max riops=max wiops=max\n",
			[]string{"8:1 rbps=max wbps=max riops=max wiops=max", "8:16 rbps=7 wbps=max riops=max wiops=max"},
		},
		{"io.bfq.weight", "default 100\n", "default 50\n8:0 30\n", []string{"8:0 default", "default 100"}},
	} {
		if got := undoing(tt.name, tt.before, tt.now); !slices.Equal(got, tt.want) {
			t.Errorf("undoing(%s, %q, %q) = %q; want %q", tt.name, tt.before, tt.now, got, tt.want)
		}
	}
}

func TestSettable(t *testing.T) {
	for _, name := range []string{"memory.max", "memory.swap.max", "cpu.weight", "cpuset.cpus", "hugetlb.2MB.rsvd.max", "cgroup.max.depth", "memory.oom.group"} {
		if !settable(name) {
			t.Errorf("settable(%s) = false; want true", name)
		}
	}
	for _, name := range []string{"cgroup.procs", "cgroup.freeze", "cgroup.kill", "cgroup.type", "cgroup.subtree_control", "memory.current", "memory.reclaim", "memory.peak", "cpu.stat", "cpu.pressure", "cpu.weight.nice", "cpuset.cpus.effective"} {
		if settable(name) {
			t.Errorf("settable(%s) = true; want false", name)
		}
	}
}
