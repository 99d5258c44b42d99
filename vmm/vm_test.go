//go:build linux

package vmm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPowerOff(t *testing.T) {
	for _, machine := range []Machine{MachineQ35, MachineMicroVM} {
		t.Run(machine.String(), func(t *testing.T) {
			cfg := testConfig(t, "poweroff")
			cfg.Machine = machine
			var console bytes.Buffer
			cfg.Console = &console
			vm := startVM(t, cfg)
			if err := vm.Wait(); err != nil {
				t.Fatalf("Wait() = %v; want nil after a power-off", err)
			}
			t.Logf("start to power-off: %v", time.Since(vm.StartTime()))
			if got := vm.ConsoleTail(); !strings.Contains(got, "guest: hello") {
				t.Errorf("ConsoleTail() = %q; want it to hold the guest's hello", got)
			}
			if console.String() != vm.ConsoleTail() {
				t.Errorf("Console got %q; want what ConsoleTail has, %q", console.String(), vm.ConsoleTail())
			}
		})
	}
}

func TestDeathAtBoot(t *testing.T) {
	tests := []struct {
		mode   string
		reason Reason
		text   string
	}{
		{"panic", ReasonReset, "the VM ended: Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300"},
		{"reboot", ReasonReset, "the VM ended: the guest rebooted"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			vm := startVM(t, testConfig(t, tt.mode))
			err := vm.Wait()
			var exit *ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("Wait() = %v; want an *ExitError", err)
			}
			if exit.Reason != tt.reason {
				t.Errorf("Reason = %q; want %q", exit.Reason, tt.reason)
			}
			if !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("Wait() = %q; want it to begin with %q", err, tt.text)
			}
		})
	}
}

// TestEndedByOwner ends a VM in every way its owner can, and sees that QEMU is gone.
func TestEndedByOwner(t *testing.T) {
	cause := errors.New("the owner has had enough")
	tests := []struct {
		name string
		end  func(*VM, context.CancelCauseFunc)
		want error
	}{
		{"close", func(vm *VM, _ context.CancelCauseFunc) { vm.Close() }, ErrClosed},
		{"cancel", func(_ *VM, cancel context.CancelCauseFunc) { cancel(cause) }, cause},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t, "hang")
			hanging := newWatcher("guest: hanging")
			cfg.Console = hanging
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			vm, err := Start(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			hanging.wait(t)
			before := qemuChildren(t)
			tt.end(vm, cancel)
			if err := vm.Wait(); !errors.Is(err, tt.want) {
				t.Errorf("Wait() = %v; want %v", err, tt.want)
			}
			if len(before) != 1 {
				t.Errorf("children while it ran: %v; want one QEMU", before)
			}
			if after := qemuChildren(t); len(after) != 0 {
				t.Errorf("children after its end: %v; want none", after)
			}
			if err := vm.Close(); err != nil {
				t.Errorf("second Close() = %v; want nil", err)
			}
		})
	}
}

func TestQEMUKilled(t *testing.T) {
	cfg := testConfig(t, "hang")
	vm := startVM(t, cfg)
	children := qemuChildren(t)
	if len(children) != 1 {
		t.Fatalf("children: %v; want one QEMU", children)
	}
	if err := syscall.Kill(children[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := vm.Wait()
	var exit *ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("Wait() = %v; want an *ExitError that tells of the signal", err)
	}
}

// TestFloodedConsole lets a guest write without end: what is kept stays bounded.
func TestFloodedConsole(t *testing.T) {
	cfg := testConfig(t, "flood")
	enough := newCounter(4 * consoleTailSize)
	cfg.Console = enough
	vm := startVM(t, cfg)
	enough.wait(t)
	vm.Close()
	if got := len(vm.ConsoleTail()); got != consoleTailSize {
		t.Errorf("len(ConsoleTail()) = %d; want %d", got, consoleTailSize)
	}
}

// TestStuckConsole has a Console whose Write does not return before the test's end.
func TestStuckConsole(t *testing.T) {
	cfg := testConfig(t, "hang")
	stuck := stuckWriter{entered: make(chan struct{}, 1), release: make(chan struct{})}
	defer close(stuck.release)
	cfg.Console = stuck
	vm := startVM(t, cfg)
	<-stuck.entered
	began := time.Now()
	vm.Close()
	if took := time.Since(began); took > 2*pipeDelay {
		t.Errorf("Close took %v; want at most %v", took, 2*pipeDelay)
	}
}

func TestPauseAndResume(t *testing.T) {
	cfg := testConfig(t, "flood")
	vm := startVM(t, cfg)
	ctx := t.Context()
	for range 3 {
		if err := vm.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		if err := vm.Resume(ctx); err != nil {
			t.Fatal(err)
		}
	}
	vm.Close()
	if err := vm.Pause(ctx); err == nil {
		t.Error("Pause() = nil after Close; want an error")
	}
}

func TestCancelledBeforeAndWhileStarting(t *testing.T) {
	cfg := testConfig(t, "hang")
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), after)
		vm, err := Start(ctx, cfg)
		if err == nil {
			err = vm.Wait()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v; want %v", after, err, context.DeadlineExceeded)
		}
		if children := qemuChildren(t); len(children) != 0 {
			t.Errorf("after %v: children %v; want none", after, children)
		}
		cancel()
	}
}

// qemuChildren returns the pids of this process's children.
func qemuChildren(t *testing.T) []int {
	t.Helper()
	var pids []int
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		data, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}
