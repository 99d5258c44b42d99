// Package vmm starts Linux virtual machines under QEMU and ends them without a
// trace. It needs no root, no KVM and no kernel module: where KVM does not truly
// work the guest is emulated, and its vsock device is served by this process
// (package vsockdev).
//
// [Start] is the way in. The context given to it governs the whole life of the
// VM: when it is cancelled, when [VM.Close] is called, and when this process
// dies in any way, even by SIGKILL, QEMU is killed. There are no files to
// clean up, because there are none: guest memory is a memfd and every connection to QEMU is
// a socketpair.
//
// A QEMU before 8.1 that emulates more than one CPU lets one hang now and then.
// The package notices that, has it go on and logs a warning
// (docs/decisions/0013-machines-that-hang-without-kvm.md).
//
// Guests are x86-64. Virtual machines run on Linux hosts; elsewhere the package
// compiles and Start returns [errors.ErrUnsupported].
package vmm
