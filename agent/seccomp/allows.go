//go:build linux && cgo && seccomp

package seccomp

import (
	"encoding/binary"

	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, seccomp(2), and its size.
const (
	offNumber = 0
	offArch   = 4
	dataSize  = 64
)

// retAllow lets the system call happen, and returnENOSYS fails it.
const (
	retAllow     = 0x7fff0000
	returnENOSYS = 0x00050000 | uint32(unix.ENOSYS) // SECCOMP_RET_ERRNO
)

// Allows says whether the filter lets all of the calls happen, by their numbers in this binary's architecture, when their arguments are 0.
func (f Filter) Allows(calls ...uint32) bool {
	native, err := libseccomp.GetNativeArch()
	if err != nil {
		return false
	}
	vm, err := f.machine()
	if err != nil {
		return false
	}
	for _, call := range calls {
		if action, err := run(vm, auditArchs[native], call); err != nil || action != retAllow {
			return false
		}
	}
	return true
}

func (f Filter) machine() (*bpf.VM, error) {
	raw := make([]bpf.RawInstruction, len(f.Program)/unix.SizeofSockFilter)
	for i := range raw {
		in := f.Program[i*unix.SizeofSockFilter:]
		raw[i] = bpf.RawInstruction{Op: binary.NativeEndian.Uint16(in), Jt: in[2], Jf: in[3], K: binary.NativeEndian.Uint32(in[4:])}
	}
	program, _ := bpf.Disassemble(raw)
	return bpf.NewVM(program)
}

// run gives what the filter returns for a system call without arguments. The machine reads its data as a packet's, in network order.
func run(vm *bpf.VM, audit, call uint32) (action uint32, err error) {
	var data [dataSize]byte
	binary.BigEndian.PutUint32(data[offNumber:], call)
	binary.BigEndian.PutUint32(data[offArch:], audit)
	n, err := vm.Run(data[:])
	return uint32(n), err
}
