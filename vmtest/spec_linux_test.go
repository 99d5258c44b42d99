package vmtest_test

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func linuxCases() []specCase {
	return []specCase{
		{"Sysctl", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel/shm_rmid_forced": "1", "kernel.domainname": "by.sysctl"}
		}, `cd /proc/sys; cat net/ipv4/ip_forward kernel/shm_rmid_forced kernel/domainname`, "1\n1\nby.sysctl"},
		{"Personality", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} }, `uname -m`, "i686"},
		{"PersonalityLinux", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux} }, `uname -m`, "x86_64"},
		{"MemoryPolicy", func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
		}, `head -1 /proc/self/numa_maps | cut -d' ' -f2`, "bind=static:0"},
	}
}

// refusedCases are refused by the guest itself; what needs no look at it is in agent/speccheck.
func refusedCases() []refusedCase {
	return []refusedCase{
		{"SELinux", func(s *specs.Spec) { s.Process.SelinuxLabel = "system_u:system_r:container_t:s0" }, "process.selinuxLabel"},
		{"MountLabel", func(s *specs.Spec) { s.Linux.MountLabel = "system_u:object_r:container_file_t:s0" }, "linux.mountLabel"},
		{"IntelRdt", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x"} }, "linux.intelRdt"},
		{"Notify", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/run/x", Syscalls: []specs.LinuxSyscall{
				{Names: []string{"mkdir"}, Action: specs.ActNotify},
			}}
		}, "linux.seccomp.listenerPath"},
		{"SysctlOfTheGuest", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.panic": "1"} }, "spec"},
		{"NoSysctl", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.no_such_thing": "1"} }, "linux.sysctl"},
		{"NoInterface", func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"none7": {}} }, "linux.netDevices"},
		{"NoFileSystem", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{s.Mounts[0], {Destination: "/mnt", Type: "nosuchfs", Source: "none"}}
		}, "mounts[1].type"},
		{"NoSource", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{s.Mounts[0], {Destination: "/mnt", Type: "bind", Source: "/no/such/place", Options: []string{"rbind"}}}
		}, "mounts[1].source"},
		{"NoDisk", func(s *specs.Spec) {
			disk := specs.LinuxThrottleDevice{Rate: 1 << 20}
			disk.Major, disk.Minor = 99, 7
			s.Linux.Resources.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{disk}}
		}, "linux.resources.blockIO.throttleReadBpsDevice"},
		{"TooManyFiles", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 31, Hard: 1 << 31}}
		}, "process.rlimits[0].hard"},
		{"NotANamespace", func(s *specs.Spec) { join(s, specs.IPCNamespace, "/dev/null") }, "linux.namespaces[1].path"},
		{"OtherNamespace", func(s *specs.Spec) { join(s, specs.IPCNamespace, "/proc/1/ns/net") }, "linux.namespaces[1].path"},
		{"NoHugepages", func(s *specs.Spec) {
			s.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "3MB", Limit: 1}}
		}, "linux.resources.hugepageLimits"},
		{"NoController", func(s *specs.Spec) { s.Linux.Resources.Unified = map[string]string{"magic.max": "1"} }, "linux.resources.unified"},
		{"RDMA", func(s *specs.Spec) {
			s.Linux.Resources.Rdma = map[string]specs.LinuxRdma{"none0": {HcaHandles: new(uint32(1)), HcaObjects: new(uint32(2))}}
		}, "linux.resources.rdma"},
		{"UnknownCall", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"no_such_call"}, Action: specs.ActErrno}}}
		}, "linux.seccomp"},
		{"DevicesInUserNamespace", func(s *specs.Spec) {
			ownUsers(s)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, UID: new(uint32(5))}}
		}, "linux.devices[0].uid"},
	}
}

// testNetDevices moves an interface of the guest into the container, with another name and the address that it has.
func testNetDevices(t *testing.T, g *guest) {
	g.root(t, "ip link add moving type dummy && ip addr add 10.9.8.7/24 dev moving")
	moved := func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"moving": {Name: "eth7"}} }
	const script = `ip -o -4 addr show eth7 | tr -s ' ' | cut -d' ' -f2,4; cat /sys/class/net/eth7/flags`
	if got, want := g.output(t, script, moved), "eth7 10.9.8.7/24\n0x83"; got != want {
		t.Errorf("the interface in the container = %q; want %q", got, want)
	}
}
