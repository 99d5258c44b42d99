package hostclient

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultSeccomp gives the filter that [DefaultSpec] has, for a container that may have the given capabilities: what Docker's profile lets through on a 64-bit machine, and so neither the making of
// namespaces, mounts, keys, eBPF, io_uring nor the like; what a capability is for comes with it. AF_VSOCK is denied always, by which a container could reach the host and the agent.
//
// It is for programs of the guest's own architecture. Those of others are killed, since a 32-bit socketcall(2) cannot be told to leave AF_VSOCK alone: think of that before adding architectures.
func DefaultSeccomp(capabilities []string) *specs.LinuxSeccomp {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(eperm))}
	names := fields(callsForFiles, callsForMemory, callsForProcesses, callsForSignals, callsForTime, callsForNetwork, callsForPolling, callsOfMachines)
	for _, c := range slices.Compact(slices.Sorted(slices.Values(capabilities))) {
		names = append(names, fields(callsOfCapabilities[c])...)
	}
	s.Syscalls = append([]specs.LinuxSyscall{{Names: names, Action: specs.ActAllow}}, socketRules()...)
	for _, domain := range personalities {
		s.Syscalls = append(s.Syscalls, allowIf("personality", specs.LinuxSeccompArg{Index: 0, Value: domain, Op: specs.OpEqualTo}))
	}
	if !slices.Contains(capabilities, "CAP_SYS_ADMIN") {
		s.Syscalls = append(
			s.Syscalls,
			allowIf("clone", specs.LinuxSeccompArg{Index: 0, Value: newNamespaces, ValueTwo: 0, Op: specs.OpMaskedEqual}),
			// Its flags are in memory, where no filter sees them. C libraries take this error for an old kernel, and use clone.
			specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: new(uint(enosys))},
		)
	}
	return s
}

// Errnos of Linux, whatever this host is.
const (
	eperm  = 1
	enosys = 38
)

// newNamespaces are the flags CLONE_NEW* of clone(2), but for CLONE_NEWTIME, which it does not have.
const newNamespaces = 0x7e020000

// personalities are those of personality(2) that do not weaken a process: PER_LINUX and PER_LINUX32, either with UNAME26 too, and the question which one it is.
var personalities = [...]uint64{0x0, 0x8, 0x20000, 0x20008, 0xffffffff}

// socketRules let through all families but AF_VSOCK. The kernel takes the family for 32 bits of the 64 that a filter compares, so it is not compared as a whole: one rule for each bit lets through what
// differs from AF_VSOCK in that bit. Six bits hold every family.
func socketRules() (rules []specs.LinuxSyscall) {
	const vsock = 40
	for bit := range 6 {
		mask := uint64(1) << bit
		rules = append(rules, allowIf("socket", specs.LinuxSeccompArg{Index: 0, Value: mask, ValueTwo: ^uint64(vsock) & mask, Op: specs.OpMaskedEqual}))
	}
	return rules
}

func allowIf(name string, arg specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg}}
}

func fields(lists ...string) (names []string) {
	for _, list := range lists {
		names = append(names, strings.Fields(list)...)
	}
	return names
}
