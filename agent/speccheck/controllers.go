//go:build linux

package speccheck

import (
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// A need is a field, and the files of a cgroup any of which is enough for it.
type need struct {
	set   bool
	field string
	files []string
}

// checkControllers refuses resources of a controller that the guest's cgroups do not have.
func checkControllers(r *specs.LinuxResources, cgroup string) error {
	for _, n := range needs(r) {
		if n.set && !anyExists(cgroup, n.files) {
			return failure.Field("linux.resources."+n.field, "this guest's cgroups have no %s", n.files[0])
		}
	}
	for name := range r.Rdma {
		if !anyExists("/sys/class/infiniband", []string{name}) {
			return failure.Field("linux.resources.rdma", "this guest has no device %.64q", name)
		}
	}
	return nil
}

func anyExists(dir string, files []string) bool {
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

func needs(r *specs.LinuxResources) []need {
	var list []need
	add := func(set bool, field string, files ...string) { list = append(list, need{set, field, files}) }
	if m := r.Memory; m != nil {
		add(m.Limit != nil, "memory.limit", "memory.max")
		add(m.Reservation != nil, "memory.reservation", "memory.low")
		add(m.Swap != nil, "memory.swap", "memory.swap.max")
	}
	if c := r.CPU; c != nil {
		add(c.Shares != nil, "cpu.shares", "cpu.weight")
		add(c.Quota != nil, "cpu.quota", "cpu.max")
		add(c.Period != nil, "cpu.period", "cpu.max")
		add(c.Burst != nil, "cpu.burst", "cpu.max.burst")
		add(c.Idle != nil, "cpu.idle", "cpu.idle")
		add(c.Cpus != "", "cpu.cpus", "cpuset.cpus")
		add(c.Mems != "", "cpu.mems", "cpuset.mems")
	}
	if b := r.BlockIO; b != nil {
		add(b.Weight != nil, "blockIO.weight", "io.bfq.weight", "io.weight")
		add(len(b.WeightDevice) > 0, "blockIO.weightDevice", "io.bfq.weight") // libcontainer leaves these out without BFQ
		add(len(b.ThrottleReadBpsDevice) > 0, "blockIO.throttleReadBpsDevice", "io.max")
		add(len(b.ThrottleWriteBpsDevice) > 0, "blockIO.throttleWriteBpsDevice", "io.max")
		add(len(b.ThrottleReadIOPSDevice) > 0, "blockIO.throttleReadIOPSDevice", "io.max")
		add(len(b.ThrottleWriteIOPSDevice) > 0, "blockIO.throttleWriteIOPSDevice", "io.max")
	}
	add(r.Pids != nil && r.Pids.Limit != nil, "pids.limit", "pids.max")
	add(len(r.Rdma) > 0, "rdma", "rdma.max")
	for _, l := range r.HugepageLimits {
		add(true, "hugepageLimits", "hugetlb."+l.Pagesize+".max")
	}
	for name := range r.Unified {
		add(true, "unified", name)
	}
	return list
}
