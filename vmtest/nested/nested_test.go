// Package nested tests for real what needs a host's kernel: the device of vhost_vsock, AF_VSOCK to a guest, and KVM. A guest is the host: with Debian's QEMU in it, it boots a machine of its
// own, whose vsock its kernel serves, and a client in it talks to the agent in that machine over AF_VSOCK. QEMU emulates a CPU with virtualization (SVM), so that KVM works in it.
package nested

import (
	"bufio"
	"bytes"
	"flag"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

var nested = flag.Bool("nested", false, "boot a machine in a machine, which takes a minute")

// Where the outer machine has QEMU and what the inner one boots from, and where the inner one has its only program.
const (
	qemuPath   = "/usr/bin/qemu-system-x86_64"
	kernelPath = "/run/nested-vmlinuz"
	initrdPath = "/run/nested-initrd"
	busybox    = vmtest.Rootfs + "/bin/busybox"
)

// TestNested runs TestInGuest in a machine that can be the host of another.
func TestNested(t *testing.T) {
	if !*nested {
		t.Skip("set -nested (make nested) to boot a machine in a machine")
	}
	vm := vmtest.Start(t, vmtest.Busybox(), vmtest.Memory(2<<30), vmtest.Modules("vhost_vsock", "vsock_loopback", "kvm_amd"), vmtest.Files(qemuFiles(t)...),
		vmtest.Machine(func(c *vmm.Config) { c.Accel = vmm.AccelTCG }))
	spec := vm.Guest.Spec()
	spec.Files = []initramfs.File{{Path: busybox, Source: "/bin/busybox", Mode: 0o755}}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := initramfs.BuildFile(initrd, spec); err != nil {
		t.Fatal(err)
	}
	vm.Upload(t, vm.Guest.Kernel, kernelPath)
	vm.Upload(t, initrd, initrdPath)
	vm.GoTest(t, ".", "-test.run=^TestInGuest")
}

// qemuFiles are QEMU as the host has it, with its libraries and the firmware that the machine types need, each at its place.
func qemuFiles(t *testing.T) (files []initramfs.File) {
	t.Helper()
	paths := []string{
		qemuPath, "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",
		"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/kvmvapic.bin", "/usr/share/qemu/linuxboot_dma.bin",
	}
	for _, path := range append(paths, libraries(t, qemuPath)...) {
		files = append(files, initramfs.File{Path: path, Source: path})
	}
	return files
}

// libraries are the shared libraries of a program, and its loader.
func libraries(t *testing.T, program string) (paths []string) {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatalf("cannot list the libraries of %s: %v (run make deps)", program, err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); { // "NAME => PATH (ADDRESS)", or "PATH (ADDRESS)" of the loader
		line := lines.Text()
		if i := strings.IndexByte(line, '/'); i >= 0 {
			path, _, _ := strings.Cut(line[i:], " ")
			paths = append(paths, path)
		}
	}
	return paths
}
