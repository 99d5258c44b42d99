//go:build linux

package vmm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/initramfs"
)

// testTimeout bounds one test's VM: a boot takes two to six seconds under TCG
// on a machine with nothing else to do.
const testTimeout = 2 * time.Minute

// kernelFiles returns the kernel and the module directory that make deps unpacks.
func kernelFiles(t testing.TB) (kernel, modules string) {
	t.Helper()
	kernel = filepath.Join("..", "build", "kernel", "vmlinuz")
	release, _, err := initramfs.KernelVersion(kernel)
	if err != nil {
		t.Skipf("no kernel to boot (%v): run make deps", err)
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no QEMU: apt-get install qemu-system-x86")
	}
	return kernel, filepath.Join("..", "build", "kernel", "lib", "modules", release)
}

// guest is the test guest's program, built once for all tests.
var guest struct {
	once sync.Once
	dir  string
	err  error
	out  []byte
}

// guestInit returns the path of the guest's /init.
func guestInit(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler for the guest's init: apt-get install gcc libc6-dev")
	}
	guest.once.Do(func() {
		if guest.dir, guest.err = os.MkdirTemp("", "vmm-guest-"); guest.err != nil {
			return
		}
		cmd := exec.Command("gcc", "-static", "-Os", "-s", "-Wno-unused-result",
			"-o", filepath.Join(guest.dir, "init"), filepath.Join("testdata", "guest.c"))
		guest.out, guest.err = cmd.CombinedOutput()
	})
	if guest.err != nil {
		t.Fatalf("building the guest's init: %v\n%s", guest.err, guest.out)
	}
	return filepath.Join(guest.dir, "init")
}

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		os.Exit(runOrphan())
	}
	code := m.Run()
	if guest.dir != "" {
		os.RemoveAll(guest.dir)
	}
	os.Exit(code)
}

// testConfig is a guest that does what mode says, without vsock.
func testConfig(t testing.TB, mode string, extra ...string) Config {
	t.Helper()
	kernel, modules := kernelFiles(t)
	initrd := filepath.Join(t.TempDir(), "initrd")
	err := initramfs.BuildFile(initrd, initramfs.Spec{
		Agent:      guestInit(t),
		Kernel:     kernel,
		ModulesDir: modules,
		Modules:    []string{"virtio_pci", "virtio_blk", "vmw_vsock_virtio_transport"},

		Compression: initramfs.None,
	})
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Kernel:  kernel,
		Initrd:  initrd,
		Cmdline: append([]string{"mode=" + mode}, extra...),
		Memory:  128 << 20,
		Vsock:   VsockNone,
	}
}

// startVM starts a VM that ends with the test, and shows what it takes to
// understand a failure.
func startVM(t testing.TB, cfg Config) *VM {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	vm, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		vm.Close()
		if t.Failed() {
			t.Logf("console:\n%s\nreproduce: %s", vm.ConsoleTail(), vm.CommandLine())
		}
	})
	return vm
}
