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

// pipeDelay bounds how long the end of a VM waits for the ends of its
// connections: for a Console.Write that does not return, or for a process that
// QEMU might have left.
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
	accel, err := cfg.chooseAccel(thisHost())
	if err != nil {
		return nil, err
	}
	cfg.Accel = accel
	qemu, err := findQEMU(cfg.QEMU)
	if err != nil {
		return nil, err
	}
	return &VM{
		cfg:    cfg,
		qemu:   qemu,
		stderr: newRing(stderrTailSize),
		done:   make(chan struct{}),
	}, nil
}

func findQEMU(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("cannot find QEMU: %w (apt-get install qemu-system-x86, or name the binary in BELLHOP_QEMU)", err)
	}
	return path, nil
}

// inheritance is what QEMU takes over from us. Our copies are closed once
// QEMU runs, or its end would not end the connections.
type inheritance struct {
	stdout  *os.File
	sockets [diskFD - monitorFD]*os.File // each at its descriptor's number, less monitorFD; nil where there is none
}

func (in *inheritance) close() {
	for _, f := range append(in.sockets[:], in.stdout) {
		if f != nil {
			f.Close()
		}
	}
}

// launch opens the connections to QEMU and starts it.
func (vm *VM) launch(ctx context.Context) error {
	in, err := vm.connect()
	if err != nil {
		vm.release()
		return err
	}
	vmCtx, cancel := context.WithCancelCause(ctx)
	vm.cancel = cancel
	cmd := vm.command(vmCtx, in)
	started := make(chan error)
	go vm.run(vmCtx, cmd, started)
	err = <-started
	in.close()
	if err != nil {
		<-vm.done
		return fmt.Errorf("cannot run QEMU: %w", err)
	}
	return nil
}

// connect opens our ends and returns QEMU's. When it fails, the caller releases
// what it has opened.
func (vm *VM) connect() (in *inheritance, err error) {
	in = &inheritance{}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	conn, socket, err := socketPair()
	if err != nil {
		return in, err
	}
	vm.monitor = newMonitor(conn)
	in.sockets[0] = socket
	if vm.cfg.canHang() {
		if conn, in.sockets[memoryFD-monitorFD], err = socketPair(); err != nil {
			return in, err
		}
		vm.healer = newHealer(vm.monitor, conn, vm.cfg.Logger)
	}
	if vm.console, in.stdout, err = openConsole(vm.cfg.Console); err != nil {
		return in, err
	}
	if vm.cfg.Vsock != VsockUser {
		return in, nil
	}
	if vm.device, err = vsockdev.New(vm.cfg.DeviceConfig); err != nil {
		return in, err
	}
	in.sockets[vsockFD-monitorFD], err = vm.device.TakeSocket()
	return in, err
}

func (vm *VM) command(ctx context.Context, in *inheritance) *exec.Cmd {
	cmd := exec.CommandContext(ctx, vm.qemu, vm.cfg.arguments(inProcess)...)
	cmd.ExtraFiles = vm.extraFiles(in.sockets[:])
	cmd.Stdout = in.stdout
	cmd.Stderr = vm.stderr
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = pipeDelay
	return cmd
}

// extraFiles puts everything at the number that the arguments name; exec.Cmd
// skips what is nil.
func (vm *VM) extraFiles(sockets []*os.File) []*os.File {
	files := make([]*os.File, diskFD-monitorFD+len(vm.cfg.Disks))
	copy(files, sockets)
	for i, d := range vm.cfg.Disks {
		files[diskFD-monitorFD+i] = d.File
	}
	return files
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
		// Its error is in cmd.ProcessState, which says more.
		_ = cmd.Wait()
	}
	vm.release()
	vm.err = vm.reasonOfEnd(context.Cause(ctx), cmd.ProcessState)
	vm.cancel(nil)
	vm.cfg.Logger.Debug("VM ended", "error", vm.err)
}

// release closes our ends of the connections to QEMU and joins their readers.
// QEMU is dead, or was never born: so the readers come to an end by themselves,
// having read all that it said.
func (vm *VM) release() {
	if vm.device != nil {
		if err := vm.device.Close(); err != nil {
			vm.cfg.Logger.Warn("closing the vsock device failed", "error", err)
		}
	}
	if vm.monitor != nil {
		vm.monitor.drain()
	}
	if vm.healer != nil {
		vm.healer.drain()
	}
	if vm.console != nil && !vm.console.drain() {
		vm.cfg.Logger.Warn("gave up on a console writer that does not return")
	}
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
	return &ExitError{Reason: reason, State: state, Stderr: vm.stderr.String(), Console: vm.console.tail.String()}
}

// launchError is the end of a QEMU that never ran its guest.
func (vm *VM) launchError() error {
	if strings.Contains(vm.stderr.String(), "Cannot allocate memory") {
		return fmt.Errorf("the host has not got the guest's %d MiB of memory: lower Config.Memory (%w)", vm.cfg.Memory>>20, vm.endError())
	}
	return vm.endError()
}
