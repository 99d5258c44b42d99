package vmm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// VM is a virtual machine that [Start] has started. Its methods may be called
// from any goroutine, also after its end.
type VM struct {
	cfg     Config
	qemu    string           // path of the binary
	device  *vsockdev.Device // nil unless VsockUser
	monitor *monitor
	healer  *healer // nil unless Config.canHang
	console *console
	stderr  *ring
	started time.Time

	cancel context.CancelCauseFunc // kills QEMU
	done   chan struct{}           // closed by run, which has joined everything by then
	err    error                   // why it ended; set before done is closed
}

// Dial connects to a port in the guest. Until the guest's driver is up it
// waits; then it tries once, and a port on which nobody listens is an error
// that wraps [syscall.ECONNREFUSED] or [syscall.ECONNRESET].
func (vm *VM) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	if err := vm.waitForDriver(ctx); err != nil {
		return nil, fmt.Errorf("cannot dial guest port %d: %w", port, err)
	}
	return vm.device.Dial(ctx, port)
}

func (vm *VM) waitForDriver(ctx context.Context) error {
	if vm.device == nil {
		return vm.noDeviceError()
	}
	select {
	case <-vm.done:
		return vm.endError()
	default:
	}
	select {
	case <-vm.device.Ready():
		return nil
	case <-vm.done:
		return vm.endError()
	case <-ctx.Done():
		return fmt.Errorf("the guest's vsock driver is not up: %w", context.Cause(ctx))
	}
}

// endError is Wait's error, and an error also where Wait has none.
func (vm *VM) endError() error {
	if vm.err != nil {
		return vm.err
	}
	return errors.New("the VM has powered off")
}

// Listen accepts what the guest dials at port of CID 2, the host. The listener
// can be made before the guest is up, and ends with the VM.
func (vm *VM) Listen(port uint32) (net.Listener, error) {
	if vm.device == nil {
		return nil, fmt.Errorf("cannot listen on host port %d: %w", port, vm.noDeviceError())
	}
	return vm.device.Listen(port)
}

func (vm *VM) noDeviceError() error {
	if vm.cfg.Vsock == VsockNone {
		return fmt.Errorf("the VM has no vsock device: %w", errors.ErrUnsupported)
	}
	return fmt.Errorf("the host's kernel serves this VM's vsock: use AF_VSOCK with CID %d: %w", vm.cfg.CID, errors.ErrUnsupported)
}

// Done is closed when the VM has ended and nothing of it is left.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// Wait waits for the end and says why it came: nil when the guest powered off,
// an [*ExitError] when it ended otherwise by itself, an error that wraps the
// context's cause when the context given to Start was cancelled, and
// [ErrClosed] after Close. It may be called any number of times.
func (vm *VM) Wait() error {
	<-vm.done
	return vm.err
}

// Close kills the VM, if it lives, and returns when nothing of it is left: no
// process, goroutine, connection or memory. It always returns nil and may be
// called any number of times.
func (vm *VM) Close() error {
	vm.cancel(ErrClosed)
	<-vm.done
	return nil
}

// ConsoleTail returns the last 64 KiB that the guest wrote to its console. The
// bytes are the guest's and not fit for a terminal.
func (vm *VM) ConsoleTail() string { return vm.console.tail.String() }

// CommandLine returns a shell command that boots the same machine, with its
// console on standard output. The user-space vsock device is missing in it,
// since it lives in this process.
func (vm *VM) CommandLine() string {
	return shellQuote(append([]string{vm.qemu}, vm.cfg.arguments(reproducible)...))
}

// Device returns the user-space vsock device, nil unless VsockUser. The VM
// closes it.
func (vm *VM) Device() *vsockdev.Device { return vm.device }

// StartTime is when QEMU was executed.
func (vm *VM) StartTime() time.Time { return vm.started }

// Accel says what runs the guest: AccelKVM or AccelTCG.
func (vm *VM) Accel() Accel { return vm.cfg.Accel }

// Pause stops the guest's CPUs; Resume lets them run again. In between, time stands
// still for the guest, connections stay, and what is sent to it waits.
func (vm *VM) Pause(ctx context.Context) error {
	vm.hold()
	if err := vm.monitor.execute(ctx, "stop"); err != nil {
		vm.unhold()
		return fmt.Errorf("cannot pause VM: %w", err)
	}
	return nil
}

// Resume undoes Pause.
func (vm *VM) Resume(ctx context.Context) error {
	if err := vm.monitor.execute(ctx, "cont"); err != nil {
		return fmt.Errorf("cannot resume VM: %w", err)
	}
	vm.unhold()
	return nil
}

// hold keeps connections over the device's stop that comes with a pause.
func (vm *VM) hold() {
	if vm.device != nil {
		vm.device.Hold()
	}
}

func (vm *VM) unhold() {
	if vm.device != nil {
		vm.device.Unhold()
	}
}
