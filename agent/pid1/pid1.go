//go:build linux && cgo

// Package pid1 is the first process of a guest, a few lines of C that run
// before the Go runtime of any program that links this package.
//
// When the kernel starts the program as PID 1 under the name init, the C code
// copies the binary into a sealed memfd, runs that, and forks: the parent stays
// PID 1, reaps orphans, forwards signals to its child and ends the machine when
// the child is gone, with all disks unmounted; the child goes on to be the Go
// program, the agent. It sees neither arguments nor environment of the kernel
// command line. In every other process the package does nothing.
//
// PID 1 has its root moved so that pivot_root(2) works, and mounts nothing else.
// It begins to load the kernel modules, which package kmod completes.
package pid1

// #include "pid1.h"
import "C"

import "time"

// ExitReboot is the exit status with which the agent asks PID 1 to reboot the
// machine. After any other end of the agent PID 1 does what SetEnding said.
const ExitReboot = C.BELLHOP_EXIT_REBOOT

// Ending is how PID 1 ends the machine.
type Ending int32

// The endings. On a machine that cannot power itself off (QEMU's microvm,
// Firecracker) a reboot is what ends it.
const (
	PowerOff Ending = C.BELLHOP_POWER_OFF
	Reboot   Ending = C.BELLHOP_REBOOT
)

// Parent is the PID 1 that forked this process.
type Parent struct {
	shared *C.struct_bellhop_shared
}

// Find returns the PID 1 that forked this process, or nil when another init
// started it.
func Find() *Parent {
	if C.bellhop_pid1_shared == nil {
		return nil
	}
	return &Parent{shared: C.bellhop_pid1_shared}
}

// Start is the time on CLOCK_BOOTTIME of PID 1's first instruction.
func (p *Parent) Start() time.Duration {
	return time.Duration(p.shared.start_ns)
}

// SetEnding sets how PID 1 ends the machine when this process is gone, however
// it went, unless with ExitReboot. It is PowerOff until set.
func (p *Parent) SetEnding(e Ending) {
	p.shared.ending = C.int32_t(e)
}
