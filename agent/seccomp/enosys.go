//go:build linux && cgo && seccomp

package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/opencontainers/runc/libcontainer/configs"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// x32Bit marks the system calls of the x32 ABI, which shares x86-64's audit architecture.
const x32Bit = 0x40000000

// auditArchs are the AUDIT_ARCH_* of the architectures that a guest's processes can have, linux/audit.h.
var auditArchs = map[libseccomp.ScmpArch]uint32{
	libseccomp.ArchX86:     unix.AUDIT_ARCH_I386,
	libseccomp.ArchAMD64:   unix.AUDIT_ARCH_X86_64,
	libseccomp.ArchX32:     unix.AUDIT_ARCH_X86_64,
	libseccomp.ArchARM:     unix.AUDIT_ARCH_ARM,
	libseccomp.ArchARM64:   unix.AUDIT_ARCH_AARCH64,
	libseccomp.ArchRISCV64: unix.AUDIT_ARCH_RISCV64,
}

// unknownCalls is what goes before a filter that refuses by default: a system call that is newer than all that the filter names fails with ENOSYS, so that a C library falls back to an
// older one instead of taking EPERM for an answer. Architectures that this project's guests do not have are left to the filter.
func unknownCalls(config *configs.Seccomp) ([]byte, error) {
	if allows(config) {
		return nil, nil
	}
	native, err := libseccomp.GetNativeArch()
	if err != nil {
		return nil, err
	}
	archs := []libseccomp.ScmpArch{native}
	for _, name := range config.Architectures {
		arch, err := libseccomp.GetArchFromString(name)
		if err != nil {
			return nil, fmt.Errorf("architecture %s: %w", name, err)
		}
		if arch != libseccomp.ArchNative && !slices.Contains(archs, arch) {
			archs = append(archs, arch)
		}
	}
	var program []unix.SockFilter
	for _, arch := range archs {
		audit, known := auditArchs[arch]
		if last := lastCall(config, arch); known && last > 0 {
			program = append(program, guard(arch, audit, uint32(last))...)
		}
	}
	return encodeProgram(program), nil
}

func allows(config *configs.Seccomp) bool {
	switch config.DefaultAction {
	case configs.Allow, configs.Log, configs.Trace:
		return true
	case configs.Errno:
		return config.DefaultErrnoRet != nil && *config.DefaultErrnoRet == uint(unix.ENOSYS)
	}
	return false
}

// lastCall is the highest number of a system call that the filter names on an architecture, or 0.
func lastCall(config *configs.Seccomp, arch libseccomp.ScmpArch) libseccomp.ScmpSyscall {
	var last libseccomp.ScmpSyscall
	for _, call := range config.Syscalls {
		if n, err := libseccomp.GetSyscallFromNameByArch(call.Name, arch); err == nil {
			last = max(last, n)
		}
	}
	return last
}

// guard answers the newer system calls of one architecture, and lets all else through to what follows it.
func guard(arch libseccomp.ScmpArch, audit, last uint32) []unix.SockFilter {
	const (
		load       = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		ifEqual    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ifAbove    = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
		ifBits     = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		returnNow  = unix.BPF_RET | unix.BPF_K
		untilAbove = 2 // instructions from behind the check of the ABI to the end
	)
	tail := []unix.SockFilter{
		{Code: ifAbove, Jt: 0, Jf: 1, K: last},
		{Code: returnNow, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	}
	var abi []unix.SockFilter
	switch arch {
	case libseccomp.ArchAMD64:
		abi = []unix.SockFilter{{Code: ifBits, Jt: untilAbove, Jf: 0, K: x32Bit}}
	case libseccomp.ArchX32:
		abi = []unix.SockFilter{{Code: ifBits, Jt: 0, Jf: untilAbove, K: x32Bit}}
		tail[0].K = last | x32Bit
	}
	rest := append(abi, tail...)
	return append([]unix.SockFilter{
		{Code: load, K: 4 * wordArch},
		{Code: ifEqual, Jt: 0, Jf: uint8(len(rest) + 1), K: audit},
		{Code: load, K: 4 * wordNumber},
	}, rest...)
}

func encodeProgram(program []unix.SockFilter) []byte {
	b := make([]byte, 0, len(program)*unix.SizeofSockFilter)
	for _, in := range program {
		b = binary.NativeEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.NativeEndian.AppendUint32(b, in.K)
	}
	return b
}
