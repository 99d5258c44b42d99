//go:build linux

package vmm

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestHealer has a guest hang in a breakpoint, and takes that from its memory where QEMU does not see it, so that QEMU's translation is old.
func TestHealer(t *testing.T) {
	cfg := testConfig(t, "unused")
	image, breakpoint := staleGuest(t)
	cfg.Accel, cfg.CPUs, cfg.Initrd = AccelTCG, 2, ""
	cfg.ExtraArgs = []string{"-kernel", image} // the last one counts
	hanging := newWatcher("guest: hanging")
	cfg.Console = hanging
	vm := startVM(t, cfg)
	hanging.wait(t)
	if !vm.monitor.olderThan(fixedIn) {
		t.Skip("QEMU 8.1 and later are not healed, having no need of it: put a QEMU before that, such as Debian 12's, first in PATH")
	}
	const nop = "\x90"
	if _, err := guestMemory(t).WriteAt([]byte(nop), int64(breakpoint)); err != nil {
		t.Fatal(err)
	}
	if err := vm.Wait(); err != nil {
		t.Fatalf("Wait() = %v; want nil, since the guest goes on and powers off", err)
	}
	if got := vm.ConsoleTail(); !strings.Contains(got, "guest: went on") {
		t.Errorf("ConsoleTail() = %q; want that the guest went on", got)
	}
}

// staleGuest builds the guest and returns where in its memory it hangs.
func staleGuest(t *testing.T) (image string, breakpoint uint64) {
	t.Helper()
	image = filepath.Join(t.TempDir(), "stale")
	build := exec.Command("gcc", "-m32", "-nostdlib", "-static", "-Wl,-Ttext=0x100000,--build-id=none", "-o", image, filepath.Join("testdata", "stale.S"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	f, err := elf.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "breakpoint" })
	return image, symbols[i].Value
}

// guestMemory opens the memory of the one machine that runs, in which an offset is a physical address.
func guestMemory(t *testing.T) *os.File {
	t.Helper()
	children := qemuChildren(t)
	if len(children) != 1 {
		t.Fatalf("children: %v; want one QEMU", children)
	}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", children[0]))
	for _, file := range files {
		if target, _ := os.Readlink(file); !strings.HasPrefix(target, "/memfd:") {
			continue
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	t.Fatal("QEMU has no memory")
	return nil
}

// TestKernelCPUs has the registers of five CPUs, as QEMU 7.2 prints them: in the kernel, halted, in a process, in the kernel, and not yet
// in 64-bit mode.
func TestKernelCPUs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "registers.txt"))
	if err != nil {
		t.Fatal(err)
	}
	printed := strings.ReplaceAll(string(text), "\n", "\r\n")
	want := []cpuState{{0, 0xffffffff956a4815, 0xff814fac00013c28}, {3, 0xffffffff95c05034, 0xff814fac00013b30}}
	if got := kernelCPUs(printed); !slices.Equal(got, want) {
		t.Errorf("kernelCPUs(…) = %#x; want %#x", got, want)
	}
}
