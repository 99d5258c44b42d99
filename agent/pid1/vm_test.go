//go:build linux && cgo

package pid1_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
)

// guestTimeout bounds a VM of these tests, without KVM on a busy machine.
const guestTimeout = 3 * time.Minute

// TestInVM runs testdata/guest as /init, once for each way in which a guest ends.
func TestInVM(t *testing.T) {
	init, child := buildGuest(t)
	for _, tt := range []struct {
		mode    string
		cmdline []string
		console []string // what must be said, in this order
		reset   bool     // the machine is to end by a reset, not by power-off
	}{
		{
			mode:    "checks",
			cmdline: []string{"init", "--version", "_LIBCONTAINER_INITPIPE=3", "LD_PRELOAD=/x", "_LIBCONTAINER_LOGPIPE=4"},
			console: []string{
				"ok identity", "ok start time", "ok sealed binary", "ok pivot_root", "ok root of PID 1", "ok signals", "ok orphans",
				"bellhop-init: the agent exited with status 0; powering off",
			},
		},
		{mode: "exit", console: []string{"bellhop-init: the agent exited with status 3; powering off"}},
		{mode: "killed", console: []string{"bellhop-init: the agent was killed by signal 9 (Killed); powering off"}},
		{mode: "reboot", console: []string{"bellhop-init: the agent exited with status 64; rebooting"}, reset: true},
		{mode: "ending", console: []string{"bellhop-init: the agent exited with status 0; rebooting"}, reset: true},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			console, err := runGuest(t, init, child, append(tt.cmdline, "pid1test="+tt.mode))
			rest := console
			for _, want := range tt.console {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("the console does not say %q, or not in its place; it says:\n%s", want, console)
				}
				rest = after
			}
			if strings.Contains(console, "did not end within") {
				t.Errorf("PID 1 could not kill what was left; the console says:\n%s", console)
			}
			var exit *vmm.ExitError
			if reset := errors.As(err, &exit) && exit.Reason == vmm.ReasonReset; reset != tt.reset || !reset && err != nil {
				t.Errorf("the VM ended with %v; want a reset: %v", err, tt.reset)
			}
		})
	}
}

// runGuest boots, with the modules for disks if there are some, and waits for the end of the machine.
func runGuest(t *testing.T, init, child string, cmdline []string, disks ...vmm.Disk) (console string, err error) {
	t.Helper()
	guest, err := initramfs.Guest{Agent: init}.Locate("../../build")
	if err != nil {
		t.Skipf("%v: run make deps", err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	spec := guest.Spec()
	spec.Compression = initramfs.None
	spec.Files = []initramfs.File{{Path: "/child", Source: child, Mode: 0o755}}
	if len(disks) == 0 {
		spec.Modules = nil
	}
	if err := initramfs.BuildFile(initrd, spec); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), guestTimeout)
	defer cancel()
	vm, err := vmm.Start(ctx, vmm.Config{Kernel: guest.Kernel, Initrd: initrd, Cmdline: cmdline, Disks: disks})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	err = vm.Wait()
	return vm.ConsoleTail(), err
}

// buildGuest builds the guest's two programs.
func buildGuest(t *testing.T) (init, child string) {
	t.Helper()
	dir := t.TempDir()
	init, child = filepath.Join(dir, "init"), filepath.Join(dir, "child")
	build(t, exec.Command("gcc", "-O2", "-Wno-unused-result", "-static", "-o", child, "testdata/child.c"))
	build(t, exec.Command("go", "build", "-o", init, "-tags", "netgo osusergo",
		"-ldflags", `-s -w -linkmode external -extldflags "-static -no-pie"`, "./testdata/guest"))
	return init, child
}

func build(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}
