package vmtest_test

import (
	"io/fs"
	"testing"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// TestInGuest runs the tests of the agent's packages that need to be root in a machine of their own, with the usual programs in /bin.
func TestInGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	vm := vmtest.Start(t, vmtest.Busybox(), vmtest.Memory(1<<30), vmtest.Files(
		initramfs.File{Path: "/bin", Content: []byte(vmtest.Rootfs + "/bin"), Mode: fs.ModeSymlink},
		initramfs.File{Path: "/etc/passwd", Content: []byte("root:x:0:0:root:/root:/bin/sh\n")},
		initramfs.File{Path: "/etc/group", Content: []byte("root:x:0:\n")},
	))
	for _, pkg := range []string{"agent", "agent/nursery"} {
		t.Run(pkg, func(t *testing.T) { vm.GoTest(t, "../"+pkg) })
	}
}
