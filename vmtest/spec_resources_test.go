package vmtest_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// resourceCases read the container's own cgroup, which the default spec mounts.
func resourceCases() []specCase {
	return []specCase{
		{"Memory", func(s *specs.Spec) {
			s.Linux.Resources.Memory = &specs.LinuxMemory{
				Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20)), Reservation: new(int64(32 << 20)),
				CheckBeforeUpdate: new(true), DisableOOMKiller: new(false), UseHierarchy: new(true),
			}
		}, cgroupFiles("memory.max", "memory.swap.max", "memory.low"), "67108864\n33554432\n33554432"},
		{"MemoryUnlimited", func(s *specs.Spec) {
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(-1)), Swap: new(int64(-1))}
		}, cgroupFiles("memory.max", "memory.swap.max"), "max\nmax"},
		{"CPU", func(s *specs.Spec) {
			s.Linux.Resources.CPU = &specs.LinuxCPU{Shares: new(uint64(1024)), Quota: new(int64(50000)), Period: new(uint64(200000)), Burst: new(uint64(10000))}
		}, cgroupFiles("cpu.weight", "cpu.max", "cpu.max.burst"), "100\n50000 200000\n10000"},
		{"CPUIdle", func(s *specs.Spec) { s.Linux.Resources.CPU = &specs.LinuxCPU{Idle: new(int64(1))} }, cgroupFiles("cpu.idle"), "1"},
		{
			"CPUSet", func(s *specs.Spec) { s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "1", Mems: "0"} },
			cgroupFiles("cpuset.cpus", "cpuset.mems") + `; nproc`, "1\n0\n1",
		},
		{"Pids", func(s *specs.Spec) { s.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(50))} }, cgroupFiles("pids.max"), "50"},
		{"PidsUnlimited", func(s *specs.Spec) { s.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(-1))} }, cgroupFiles("pids.max"), "max"},
		{"BlockIO", func(s *specs.Spec) {
			throttle := func(rate uint64) []specs.LinuxThrottleDevice {
				return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: diskMajor}, Rate: rate}}
			}
			s.Linux.Resources.BlockIO = &specs.LinuxBlockIO{
				ThrottleReadBpsDevice: throttle(1 << 20), ThrottleWriteBpsDevice: throttle(2 << 20),
				ThrottleReadIOPSDevice: throttle(100), ThrottleWriteIOPSDevice: throttle(200),
			}
		}, cgroupFiles("io.max"), fmt.Sprintf("%d:0 rbps=1048576 wbps=2097152 riops=100 wiops=200", diskMajor)},
		{"Hugepages", func(s *specs.Spec) {
			s.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
		}, cgroupFiles("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"), "4194304\n4194304"},
		{"Unified", func(s *specs.Spec) {
			s.Linux.Resources.Unified = map[string]string{"memory.high": "50331648", "memory.min": "4096", "cgroup.max.descendants": "3"}
		}, cgroupFiles("memory.high", "memory.min", "cgroup.max.descendants"), "50331648\n4096\n3"},
		{"CgroupsPath", func(s *specs.Spec) {
			s.Linux.CgroupsPath = "/some/where"
			s.Linux.Namespaces = withoutNamespace(s, specs.CgroupNamespace)
		}, `cat /proc/self/cgroup`, "0::/bellhop/some/where"},
	}
}

// cgroupFiles is a script that prints files of the container's cgroup.
func cgroupFiles(names ...string) string {
	script := "cd /sys/fs/cgroup && cat"
	for _, name := range names {
		script += " " + name
	}
	return script
}

// testBlockIOWeight refuses weights without BFQ, by which libcontainer sets those of devices, and gives them with it.
func testBlockIOWeight(t *testing.T, g *guest) {
	weight := func(s *specs.Spec) {
		s.Linux.Resources.BlockIO = &specs.LinuxBlockIO{
			Weight:       new(uint16(200)),
			WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: diskMajor}, Weight: new(uint16(300))}},
		}
	}
	device := func(s *specs.Spec) { weight(s); s.Linux.Resources.BlockIO.Weight = nil }
	g.refused(t, "linux.resources.blockIO.weightDevice", device)
	g.root(t, "insmod /bfq.ko && echo bfq >/sys/block/vda/queue/scheduler")
	if got, want := g.output(t, cgroupFiles("io.bfq.weight"), weight), fmt.Sprintf("default 200\n%d:0 300", diskMajor); got != want {
		t.Errorf("io.bfq.weight = %q; want %q", got, want)
	}
}
