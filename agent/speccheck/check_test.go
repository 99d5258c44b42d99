//go:build linux

package speccheck

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// base is a spec that passes.
func base() *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "/r"},
		Process: &specs.Process{Args: []string{"sh"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.TimeNamespace}},
			Resources: &specs.LinuxResources{
				Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{},
			},
			Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActAllow},
		},
	}
}

// refusal is a change of a spec, and the field by whose name it is refused.
type refusal struct {
	field  string
	change func(*specs.Spec)
}

func TestCheck(t *testing.T) {
	if err := Check(base()); err != nil {
		t.Fatalf("Check(base) = %v; want no error", err)
	}
	for _, list := range [][]refusal{processRefusals, mountRefusals, linuxRefusals, resourceRefusals, seccompRefusals} {
		for _, r := range list {
			s := base()
			r.change(s)
			err := Check(s)
			if got := failure.Status(err).Field; !errors.Is(err, errdefs.ErrInvalidArgument) || got != r.field {
				t.Errorf("Check() = %v, of the field %q; want invalid argument, of %q", err, got, r.field)
			}
		}
	}
}

var processRefusals = []refusal{
	{"process.args[1]", func(s *specs.Spec) { s.Process.Args = []string{"sh", "a\x00b"} }},
	{"annotations", func(s *specs.Spec) { s.Annotations = map[string]string{"k": "\x00"} }},
	{"process.user.username", func(s *specs.Spec) { s.Process.User = specs.User{Username: "me", UID: 1} }},
	{"process.user.umask", func(s *specs.Spec) { s.Process.User.Umask = new(uint32(0o1000)) }},
	{"process.oomScoreAdj", func(s *specs.Spec) { s.Process.OOMScoreAdj = new(1001) }},
	{"process.consoleSize", func(s *specs.Spec) {
		s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Width: 1 << 16, Height: 1}
	}},
	{"process.capabilities.bounding", func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FLY"} }},
	{"process.capabilities.bounding", func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"chown"} }},
	{"process.capabilities.effective", func(s *specs.Spec) { s.Process.Capabilities.Effective = []string{"CAP_CHOWN"} }},
	{"process.capabilities.inheritable", func(s *specs.Spec) { s.Process.Capabilities.Inheritable = []string{"CAP_CHOWN"} }},
	{"process.capabilities.permitted", func(s *specs.Spec) { s.Process.Capabilities.Permitted = []string{""} }},
	{"process.capabilities.ambient", func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"CAP_CHOWN"} }},
	{"process.capabilities.ambient", func(s *specs.Spec) {
		s.Process.Capabilities.Ambient, s.Process.Capabilities.Permitted = []string{"CAP_CHOWN"}, []string{"CAP_CHOWN"}
	}},
	{"process.scheduler", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_FAST"} }},
	{"process.scheduler", func(s *specs.Spec) {
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{"X"}}
	}},
	{"process.scheduler.nice", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} }},
	{"process.scheduler.nice", func(s *specs.Spec) {
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Priority: 1, Nice: 1}
	}},
	{"process.scheduler.priority", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Priority: 100} }},
	{"process.scheduler.priority", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Priority: 1} }},
	{"process.scheduler.runtime", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Runtime: 1} }},
	{"process.scheduler.deadline", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Deadline: 1} }},
	{"process.scheduler.period", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Period: 1} }},
	{"process.ioPriority.class", func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "BEST"} }},
	{"process.ioPriority.priority", func(s *specs.Spec) {
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
	}},
	{"process.execCPUAffinity", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "x"} }},
	{"hooks.createRuntime[0].path", func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "hook"}}} }},
	//lint:ignore SA1019 deprecated
	{"hooks.prestart[0].path", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Prestart: []specs.Hook{{}}} }},
	{"hooks.poststop[0].timeout", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/h", Timeout: new(0)}}} }},
	{"annotations", func(s *specs.Spec) { s.Annotations = map[string]string{"": "v"} }},
	{"annotations", func(s *specs.Spec) { s.Annotations = map[string]string{"a=b": "v"} }},
	{"annotations", func(s *specs.Spec) { s.Annotations = map[string]string{"bundle": "v"} }},
}

func mounted(m specs.Mount) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Mounts = []specs.Mount{m} }
}

func device(d specs.LinuxDevice) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{d} }
}

var mountRefusals = []refusal{
	{"mounts[0].destination", mounted(specs.Mount{Destination: "x", Type: "tmpfs"})},
	{"mounts[0].type", mounted(specs.Mount{Destination: "/x"})},
	{"mounts[0].source", mounted(specs.Mount{Destination: "/x", Source: "y", Options: []string{"bind"}})},
	{"mounts[0].options", mounted(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"rro"}})},
	{"mounts[0].options", mounted(specs.Mount{Destination: "/x", Type: "bind", Source: "/y", Options: []string{"rbind", "tmpcopyup"}})},
	{"mounts[0].uidMappings", mounted(specs.Mount{Destination: "/x", Type: "tmpfs", UIDMappings: []specs.LinuxIDMapping{{Size: 1}}})},
	{"mounts[0].gidMappings", mounted(specs.Mount{Destination: "/x", Type: "tmpfs", GIDMappings: []specs.LinuxIDMapping{{Size: 1}}})},
	{"linux.maskedPaths", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"proc/x"} }},
	{"linux.readonlyPaths", func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"proc/x"} }},
	{"linux.devices", func(s *specs.Spec) {
		mounted(specs.Mount{Destination: "/dev/", Source: "/dev", Options: []string{"bind"}})(s)
		device(specs.LinuxDevice{Path: "/dev/x", Type: "c"})(s)
	}},
	{"linux.devices[0].path", device(specs.LinuxDevice{Path: "x", Type: "c"})},
	{"linux.devices[0].path", device(specs.LinuxDevice{Path: "/dev/ptmx", Type: "c"})},
	{"linux.devices[0].type", device(specs.LinuxDevice{Path: "/dev/x", Type: "a"})},
	{"linux.devices[0]", device(specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: -1})},
	{"linux.devices[0].fileMode", device(specs.LinuxDevice{Path: "/dev/x", Type: "c", FileMode: new(os.ModeDevice)})},
}

func namespaces(list ...specs.LinuxNamespace) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = append(list, specs.LinuxNamespace{Type: specs.MountNamespace})
	}
}

var linuxRefusals = []refusal{
	{"linux.namespaces[0].type", namespaces(specs.LinuxNamespace{Type: "space"})},
	{"linux.namespaces[1].type", namespaces(specs.LinuxNamespace{Type: specs.MountNamespace})},
	{"linux.namespaces[0].path", namespaces(specs.LinuxNamespace{Type: specs.PIDNamespace, Path: "ns"})},
	{"linux.uidMappings", func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }},
	{"linux.gidMappings", func(s *specs.Spec) { s.Linux.GIDMappings = []specs.LinuxIDMapping{{Size: 1}} }},
	{"linux.uidMappings", namespaces(specs.LinuxNamespace{Type: specs.UserNamespace})},
	{"linux.gidMappings", func(s *specs.Spec) {
		namespaces(specs.LinuxNamespace{Type: specs.UserNamespace})(s)
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}}
	}},
	{"hostname", func(s *specs.Spec) { s.Hostname = strings.Repeat("x", 65) }},
	{"hostname", func(s *specs.Spec) { namespaces()(s); s.Hostname = "x" }},
	{"domainname", func(s *specs.Spec) { s.Domainname = strings.Repeat("x", 65) }},
	{"linux.timeOffsets", func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}} }},
	{"linux.timeOffsets", func(s *specs.Spec) {
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Nanosecs: 1e9}}
	}},
	{"linux.timeOffsets", func(s *specs.Spec) {
		namespaces()(s)
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}}
	}},
	{"linux.netDevices", func(s *specs.Spec) {
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {Name: "sixteen-letters!"}}
	}},
	{"linux.netDevices", func(s *specs.Spec) { namespaces()(s); s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}} }},
	{"linux.personality.domain", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} }},
	{"linux.personality.flags", func(s *specs.Spec) {
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"X"}}
	}},
}

func devices(d specs.LinuxDeviceCgroup) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{d} }
}

func memory(m specs.LinuxMemory) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Resources.Memory = &m }
}

func cpu(c specs.LinuxCPU) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Resources.CPU = &c }
}

func blockIO(b specs.LinuxBlockIO) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Resources.BlockIO = &b }
}

func unified(name string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Resources.Unified = map[string]string{name: "1"} }
}

var resourceRefusals = []refusal{
	{"linux.resources.devices[0].type", devices(specs.LinuxDeviceCgroup{Type: "p", Access: "rwm"})},
	{"linux.resources.devices[0].type", devices(specs.LinuxDeviceCgroup{Allow: true, Major: new(int64(1)), Minor: new(int64(3)), Access: "rwm"})},
	{"linux.resources.devices[0].access", devices(specs.LinuxDeviceCgroup{Allow: true, Access: "r"})},
	{"linux.resources.devices[0].access", devices(specs.LinuxDeviceCgroup{Type: "c", Access: "rx"})},
	{"linux.resources.devices[0].access", devices(specs.LinuxDeviceCgroup{Type: "c"})},
	{"linux.resources.devices[0].major", devices(specs.LinuxDeviceCgroup{Type: "c", Major: new(int64(-2)), Access: "r"})},
	{"linux.resources.devices[0].minor", devices(specs.LinuxDeviceCgroup{Type: "c", Minor: new(int64(-2)), Access: "r"})},
	{"linux.resources.network", func(s *specs.Spec) { s.Linux.Resources.Network = &specs.LinuxNetwork{} }},
	{"linux.resources.memory.limit", memory(specs.LinuxMemory{Limit: new(int64(0))})},
	{"linux.resources.memory.limit", memory(specs.LinuxMemory{Limit: new(int64(-2))})},
	{"linux.resources.memory.swap", memory(specs.LinuxMemory{Swap: new(int64(0))})},
	{"linux.resources.memory.reservation", memory(specs.LinuxMemory{Reservation: new(int64(-2))})},
	//lint:ignore SA1019 deprecated
	{"linux.resources.memory.kernel", memory(specs.LinuxMemory{Kernel: new(int64(1))})},
	{"linux.resources.memory.kernelTCP", memory(specs.LinuxMemory{KernelTCP: new(int64(1))})},
	{"linux.resources.memory.swappiness", memory(specs.LinuxMemory{Swappiness: new(uint64(0))})},
	{"linux.resources.memory.disableOOMKiller", memory(specs.LinuxMemory{DisableOOMKiller: new(true)})},
	{"linux.resources.memory.useHierarchy", memory(specs.LinuxMemory{UseHierarchy: new(false)})},
	{"linux.resources.cpu.shares", cpu(specs.LinuxCPU{Shares: new(uint64(0))})},
	{"linux.resources.cpu.quota", cpu(specs.LinuxCPU{Quota: new(int64(0))})},
	{"linux.resources.cpu.quota", cpu(specs.LinuxCPU{Quota: new(int64(999))})},
	{"linux.resources.cpu.period", cpu(specs.LinuxCPU{Period: new(uint64(0))})},
	{"linux.resources.cpu.period", cpu(specs.LinuxCPU{Period: new(uint64(999))})},
	{"linux.resources.cpu.period", cpu(specs.LinuxCPU{Period: new(uint64(1_000_001))})},
	{"linux.resources.cpu.realtimeRuntime", cpu(specs.LinuxCPU{RealtimeRuntime: new(int64(1))})},
	{"linux.resources.cpu.realtimePeriod", cpu(specs.LinuxCPU{RealtimePeriod: new(uint64(1))})},
	{"linux.resources.cpu.idle", cpu(specs.LinuxCPU{Idle: new(int64(2))})},
	{"linux.resources.blockIO.weight", blockIO(specs.LinuxBlockIO{Weight: new(uint16(9))})},
	{"linux.resources.blockIO.leafWeight", blockIO(specs.LinuxBlockIO{LeafWeight: new(uint16(100))})},
	{"linux.resources.blockIO.weightDevice[0].weight", blockIO(specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{{}}})},
	{"linux.resources.blockIO.weightDevice[0].leafWeight", blockIO(specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{{LeafWeight: new(uint16(100))}}})},
	{"linux.resources.blockIO.throttleReadBpsDevice", blockIO(specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{}}})},
	{"linux.resources.blockIO.throttleWriteIOPSDevice", blockIO(specs.LinuxBlockIO{ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{{}}})},
	{"linux.resources.unified", unified("memory")},
	{"linux.resources.unified", unified("../memory.high")},
	{"linux.resources.unified", unified("cgroup.freeze")},
	{"linux.resources.unified", unified("cgroup.procs")},
}

func seccomp(change func(*specs.LinuxSeccomp)) func(*specs.Spec) {
	return func(s *specs.Spec) { change(s.Linux.Seccomp) }
}

func call(c specs.LinuxSyscall) func(*specs.Spec) {
	return seccomp(func(s *specs.LinuxSeccomp) { s.Syscalls = []specs.LinuxSyscall{c} })
}

var seccompRefusals = []refusal{
	{"linux.seccomp.defaultAction", seccomp(func(s *specs.LinuxSeccomp) { s.DefaultAction = "" })},
	{"linux.seccomp.defaultAction", seccomp(func(s *specs.LinuxSeccomp) { s.DefaultAction = specs.ActNotify })},
	{"linux.seccomp.defaultErrnoRet", seccomp(func(s *specs.LinuxSeccomp) { s.DefaultErrnoRet = new(uint(1)) })},
	{"linux.seccomp.listenerPath", seccomp(func(s *specs.LinuxSeccomp) { s.ListenerPath = "/run/x" })},
	{"linux.seccomp.listenerMetadata", seccomp(func(s *specs.LinuxSeccomp) { s.ListenerMetadata = "x" })},
	{"linux.seccomp.flags", seccomp(func(s *specs.LinuxSeccomp) {
		s.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}
	})},
	{"linux.seccomp.syscalls[0].action", call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActNotify})},
	{"linux.seccomp.syscalls[0].names", call(specs.LinuxSyscall{Action: specs.ActErrno})},
	{"linux.seccomp.syscalls[0].errnoRet", call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActKill, ErrnoRet: new(uint(1))})},
	{"linux.seccomp.syscalls[0].errnoRet", call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: new(uint(4096))})},
	{"linux.seccomp.syscalls[0].errnoRet", call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActTrace, ErrnoRet: new(uint(1 << 15))})},
	{"linux.seccomp.syscalls[0].args[0].index", call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6}}})},
	{"linux.seccomp.syscalls[0].args[0].valueTwo", call(specs.LinuxSyscall{
		Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{ValueTwo: 1, Op: specs.OpEqualTo}},
	})},
}
