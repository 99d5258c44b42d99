package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
)

// machine is a booted machine with a connected client. Its files have no names any more, so nothing is left however this process ends.
type machine struct {
	initrd, disk *os.File
	vm           *vmm.VM
	client       *hostclient.Client
}

// boot makes initramfs and disk, starts the machine and connects to its agent. A failure leaves nothing behind.
func boot(ctx context.Context, cfg *config, times *timeline) (_ *machine, err error) {
	m := new(machine)
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	vmConfig, err := m.prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if m.vm, err = vmm.Start(ctx, vmConfig); err != nil {
		return nil, err
	}
	times.start = m.vm.StartTime()
	if err := m.connect(ctx, cfg); err != nil {
		return nil, err
	}
	times.mark("connected")
	return m, nil
}

// prepare makes the machine's files.
func (m *machine) prepare(ctx context.Context, cfg *config) (vmm.Config, error) {
	guest, err := initramfs.Guest{Kernel: cfg.kernel, Modules: cfg.modules, Agent: cfg.agent}.Locate(installed()...)
	if err != nil {
		return vmm.Config{}, err
	}
	spec := guest.Spec()
	spec.Compression = initramfs.None // it is unpacked once, and packing would cost more than it saves
	if m.initrd, err = writeInitrd(spec); err != nil {
		return vmm.Config{}, err
	}
	if m.disk, err = vmm.TempExt4(ctx, cfg.rootfs, nil); err != nil {
		return vmm.Config{}, err
	}
	c := vmm.Config{
		Kernel: guest.Kernel,
		Initrd: openPath(m.initrd),
		Memory: cfg.memory,
		CPUs:   cfg.cpus,
		Disks:  []vmm.Disk{{File: m.disk}},
		Logger: cfg.logger(),
	}
	if cfg.verbose {
		c.Console = cfg.stderr
	}
	return c, nil
}

// writeInitrd builds the initramfs in a file without a name; the caller closes it.
func writeInitrd(spec initramfs.Spec) (*os.File, error) {
	f, err := os.CreateTemp("", "bellhop-*.initrd")
	if err != nil {
		return nil, fmt.Errorf("cannot make the initramfs: %w", err)
	}
	err = errors.Join(os.Remove(f.Name()), initramfs.Build(f, spec))
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w: %s is full (TMPDIR chooses another place)", err, filepath.Dir(f.Name()))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openPath is a name under which another process of this user, QEMU, can open a file that has none.
func openPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// installed are the directories in which agent and kernel may be: this program's own, and where a package puts them.
func installed() []string {
	const packaged = "/usr/lib/bellhop"
	self, err := os.Executable()
	if err != nil {
		return []string{packaged}
	}
	return []string{filepath.Dir(self), packaged}
}

// connect waits for the agent, as long as the machine lives and --boot-timeout allows.
func (m *machine) connect(ctx context.Context, cfg *config) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, cfg.bootTimeout, fmt.Errorf("no answer within %v", cfg.bootTimeout))
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-m.vm.Done():
			cancel(m.ended())
		case <-ctx.Done():
		}
	}()
	m.client, err = hostclient.Connect(ctx, m.vm, &hostclient.Config{Software: "bellhop " + version(), Logger: cfg.logger()})
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	switch {
	case err == nil:
		return nil
	case cause != nil && errors.Is(cause, m.vmError()):
		return cause
	case ctx.Err() != nil && cause != nil && !isSignal(cause):
		return fmt.Errorf("cannot reach the guest's agent: %w%s", cause, m.console())
	}
	return err
}

// vmError is how the machine ended, nil while it runs.
func (m *machine) vmError() error {
	select {
	case <-m.vm.Done():
		return m.vm.Wait()
	default:
		return nil
	}
}

// ended says that the machine is gone, and why.
func (m *machine) ended() error {
	if err := m.vm.Wait(); err != nil {
		return err
	}
	return errors.New("the machine powered off before its time" + m.console())
}

// endOf gives the reason why the machine is gone, nil if it still runs or ctx ended it.
func (m *machine) endOf(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-m.vm.Done():
		return m.ended()
	default:
		return nil
	}
}

// console gives the last lines of the machine's console for an error, without the control characters of an untrusted guest.
func (m *machine) console() string {
	const most = 12
	lines := strings.FieldsFunc(m.vm.ConsoleTail(), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return "; its console is empty"
	}
	var b strings.Builder
	b.WriteString("; its console ends:")
	for _, l := range lines[max(0, len(lines)-most):] {
		b.WriteString("\n\t" + strings.Map(printable, l))
	}
	return b.String()
}

func printable(r rune) rune {
	if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return -1
	}
	return r
}

// close ends client and machine, and with them their files.
func (m *machine) close() {
	if m.client != nil {
		m.client.Close()
	}
	if m.vm != nil {
		m.vm.Close()
	}
	for _, f := range []*os.File{m.initrd, m.disk} {
		if f != nil {
			f.Close()
		}
	}
}

// logger is silent without --verbose.
func (c *config) logger() *slog.Logger {
	if !c.verbose {
		return slog.New(slog.DiscardHandler)
	}
	var w io.Writer = c.stderr
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
