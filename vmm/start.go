package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// pipeDelay bounds how long the end of a VM waits for a Console.Write that
// does not return.
const pipeDelay = 2 * time.Second

// Start starts a VM and returns when QEMU has accepted its options and the
// guest begins to boot. ctx governs the VM's whole life: when it is cancelled, at
// any time, the VM is killed. The caller ends it with Close.
//
// An error is one line that says what is missing and how to get it; nothing is
// left behind then.
func Start(ctx context.Context, cfg Config) (*VM, error) {
	vm, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot start VM: %w", err)
	}
	return vm, nil
}

func start(ctx context.Context, cfg Config) (*VM, error) {
	vm, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := vm.launch(ctx); err != nil {
		return nil, err
	}
	select {
	case <-vm.monitor.ready:
		return vm, nil
	case <-vm.done:
		return nil, vm.launchError()
	}
}

// prepare does what needs no resources.
func prepare(ctx context.Context, cfg Config) (*VM, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	accel, err := thisHost().choose(cfg.Accel)
	if err != nil {
		return nil, err
	}
	cfg.Accel = accel
	qemu, err := findQEMU(cfg.QEMU)
	if err != nil {
		return nil, err
	}
	return &VM{
		cfg:     cfg,
		qemu:    qemu,
		console: newRing(consoleTailSize),
		stderr:  newRing(stderrTailSize),
		done:    make(chan struct{}),
	}, nil
}

func findQEMU(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("cannot find QEMU: %w (apt-get install qemu-system-x86, or name the binary in BELLHOP_QEMU)", err)
	}
	return path, nil
}

// launch opens the connections that QEMU inherits and starts it.
func (vm *VM) launch(ctx context.Context) error {
	conn, theirs, err := socketPair()
	if err != nil {
		return err
	}
	inherited := []*os.File{theirs}
	if vm.cfg.Vsock == VsockUser {
		socket, err := vm.openDevice()
		if err != nil {
			conn.Close()
			theirs.Close()
			return err
		}
		inherited = append(inherited, socket)
	}
	vm.monitor = newMonitor(conn)

	vmCtx, cancel := context.WithCancelCause(ctx)
	vm.cancel = cancel
	cmd := vm.command(vmCtx, inherited)
	started := make(chan error)
	go vm.run(vmCtx, cmd, started)
	err = <-started
	for _, f := range inherited {
		f.Close() // or QEMU's end would not end the connections
	}
	if err != nil {
		<-vm.done
		return fmt.Errorf("cannot run QEMU: %w", err)
	}
	return nil
}

// openDevice makes the vsock device and returns QEMU's end of its socket.
func (vm *VM) openDevice() (*os.File, error) {
	device, err := vsockdev.New(vm.cfg.DeviceConfig)
	if err != nil {
		return nil, err
	}
	socket, err := device.TakeSocket()
	if err != nil {
		device.Close()
		return nil, err
	}
	vm.device = device
	return socket, nil
}

func (vm *VM) command(ctx context.Context, inherited []*os.File) *exec.Cmd {
	cmd := exec.CommandContext(ctx, vm.qemu, vm.cfg.arguments(inProcess)...)
	cmd.ExtraFiles = inherited
	cmd.Stdout = &tee{ring: vm.console, w: vm.cfg.Console}
	cmd.Stderr = vm.stderr
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = pipeDelay
	return cmd
}

// run is the VM's owner: it starts QEMU, waits for its end and releases all
// that the VM holds. It keeps its thread for all that time, because QEMU is
// killed when the thread that started it ends.
func (vm *VM) run(ctx context.Context, cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(vm.done)

	vm.started = time.Now()
	err := cmd.Start()
	started <- err
	if err == nil {
		vm.cfg.Logger.Debug("started QEMU", "pid", cmd.Process.Pid, "command", vm.CommandLine())
		err = cmd.Wait()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		vm.cfg.Logger.Warn("gave up on a console writer that does not return")
	}
	vm.release()
	vm.err = vm.reasonOfEnd(context.Cause(ctx), cmd.ProcessState)
	vm.cancel(nil)
	vm.cfg.Logger.Debug("VM ended", "error", vm.err)
}

// release closes what run owns. QEMU is dead, so the monitor's reader has come
// to the end of its connection or does so now.
func (vm *VM) release() {
	if vm.device != nil {
		if err := vm.device.Close(); err != nil {
			vm.cfg.Logger.Warn("closing the vsock device failed", "error", err)
		}
	}
	vm.monitor.drain()
}

func (vm *VM) reasonOfEnd(cause error, state *os.ProcessState) error {
	reason := vm.monitor.shutdownReason()
	switch {
	case errors.Is(cause, ErrClosed):
		return ErrClosed
	case cause != nil:
		return fmt.Errorf("the VM was killed: %w", cause)
	case reason == ReasonShutdown && state != nil && state.Success():
		return nil
	}
	return &ExitError{Reason: reason, State: state, Stderr: vm.stderr.String(), Console: vm.console.String()}
}

// launchError is the end of a QEMU that never ran its guest.
func (vm *VM) launchError() error {
	if strings.Contains(vm.stderr.String(), "Cannot allocate memory") {
		return fmt.Errorf("the host has not got the guest's %d MiB of memory: lower Config.Memory (%w)", vm.cfg.Memory>>20, vm.endError())
	}
	return vm.endError()
}
