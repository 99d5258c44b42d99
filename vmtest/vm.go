package vmtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
)

// bootTimeout bounds the time from QEMU's start to the agent's hello. Without KVM, and with other machines beside it, a boot can take several times
// its usual two seconds.
const bootTimeout = 2 * time.Minute

// VM is a running machine. It ends with the test that started it.
type VM struct {
	Machine *vmm.VM
	Client  *hostclient.Client // nil with NoClient
	Guest   initramfs.Guest    // what it booted from
	Initrd  string             // path of its initramfs

	dir string
}

// Start boots a machine and connects to its agent. The test fails, at once, if that can't be done.
func Start(t testing.TB, opts ...Option) *VM {
	t.Helper()
	vm, err := Boot(context.Background(), opts...)
	if err != nil {
		t.Fatalf("vmtest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the machine's console:\n%s", vm.Machine.ConsoleTail())
			t.Logf("to boot the same machine by hand (its initrd is gone with this test):\n%s", vm.Machine.CommandLine())
		}
		vm.Close()
	})
	return vm
}

// Boot is Start outside tests. ctx governs the machine's whole life; the caller ends it with Close.
func Boot(ctx context.Context, opts ...Option) (_ *VM, err error) {
	guest, err := locate()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bellhop-vm-")
	if err != nil {
		return nil, err
	}
	vm := &VM{Guest: guest, Initrd: filepath.Join(dir, "initrd"), dir: dir}
	defer func() {
		if err != nil {
			vm.Close()
		}
	}()
	spec := guest.Spec()
	spec.Compression = initramfs.None // it is unpacked once, and packing would cost more than it saves
	c := &config{initrd: spec, connect: true, machine: vmm.Config{Kernel: guest.Kernel, Initrd: vm.Initrd}, dir: dir}
	for _, o := range opts {
		if err := o(c); err != nil {
			return nil, err
		}
	}
	if err := initramfs.BuildFile(vm.Initrd, c.initrd); err != nil {
		return nil, err
	}
	if vm.Machine, err = vmm.Start(ctx, c.machine); err != nil {
		return nil, err
	}
	if !c.connect {
		return vm, nil
	}
	return vm, vm.connect(ctx, &c.client)
}

func (vm *VM) connect(ctx context.Context, cfg *hostclient.Config) (err error) {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	vm.Client, err = hostclient.Connect(ctx, vm.Machine, cfg)
	return err
}

// Close ends client and machine and removes the machine's files. It may be called more than once.
func (vm *VM) Close() {
	if vm.Client != nil {
		vm.Client.Close()
	}
	if vm.Machine != nil {
		vm.Machine.Close()
	}
	os.RemoveAll(vm.dir)
}

// locate finds kernel, modules and agent: where the environment says (BELLHOP_KERNEL, BELLHOP_MODULES, BELLHOP_AGENT), else in the build
// directory of the enclosing module, else in /usr/lib/bellhop.
func locate() (initramfs.Guest, error) {
	dirs := []string{"/usr/lib/bellhop"}
	if build, err := buildDir(); err == nil {
		dirs = []string{build, dirs[0]}
	}
	return initramfs.Guest{
		Kernel:  os.Getenv("BELLHOP_KERNEL"),
		Modules: os.Getenv("BELLHOP_MODULES"),
		Agent:   os.Getenv("BELLHOP_AGENT"),
	}.Locate(dirs...)
}

// buildDir is build/ beside the nearest go.mod above the working directory.
func buildDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return filepath.Join(dir, "build"), nil
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return "", err
		}
		dir = parent
	}
}
