package vmm

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The descriptors that QEMU inherits: exec.Cmd numbers ExtraFiles from 3. Files
// of disks come behind the sockets, each at diskFD and the disk's index.
const (
	monitorFD = 3
	vsockFD   = 4
	memoryFD  = 5
	diskFD    = 6
)

// baseCmdline is what every guest gets; Config.Cmdline comes behind it, and the
// kernel lets the last of two equal parameters win.
var baseCmdline = []string{
	"console=ttyS0",
	"quiet",
	// A panic ends the VM at once (with -no-reboot), instead of hanging it.
	"panic=-1",
	// Zeroing 2 MiB pages makes each exec of a small process slower.
	"transparent_hugepage=never",
}

// emulatedCmdline is for a guest without KVM.
var emulatedCmdline = []string{
	// QEMU's TSC is the host's, and the same on every virtual CPU, but the kernel does not trust it and reads the HPET instead, an emulated
	// device, for 5 to 13 µs each time that anybody asks what time it is.
	"tsc=reliable",
	// The kernel tests for 40 ms whether the timer interrupts it. On a busy host QEMU may be late, and what the kernel then tries leaves an
	// interrupt in service for ever, which holds up those of the devices. Under KVM the kernel does not test either.
	"no_timer_check",
}

func (c Config) kernelCmdline() string {
	params := append([]string(nil), baseCmdline...)
	if c.Accel != AccelKVM {
		params = append(params, emulatedCmdline...)
		if c.Machine == MachineMicroVM {
			params = append(params, c.microvmCmdline()...)
		}
	}
	if c.CountInstructions {
		params = append(params, icountCmdline...)
	}
	return strings.Join(append(params, c.Cmdline...), " ")
}

// microvmCmdline tells the kernel what it cannot find out on an emulated machine
// that has no timer to calibrate against: how fast the TSC counts, which is the
// host's. On a host whose CPU changes its frequency this is only near the truth,
// and the guest's clock goes wrong by as much; q35 has no such trouble, nor has a
// machine that counts instructions. Under KVM the kernel asks the hypervisor.
func (c Config) microvmCmdline() []string {
	khz := int64(icountTSC)
	if !c.CountInstructions {
		khz = hostTSC()
	}
	if khz <= 0 {
		return nil
	}
	return []string{fmt.Sprintf("tsc_early_khz=%d", khz)}
}

// hostTSC is the frequency of the first CPU in kHz, 0 if it is not known.
func hostTSC() int64 {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	mhz, err := strconv.ParseFloat(cpuinfoField(f, "cpu MHz"), 64)
	if err != nil {
		return 0
	}
	return int64(mhz * 1000)
}

// form says for whom QEMU's arguments are.
type form int

const (
	inProcess    form = iota // for this process
	reproducible             // for a person's shell: without what QEMU inherits from us
)

// arguments returns QEMU's arguments. In the reproducible form the monitor and
// the user-space vsock device are missing.
func (c Config) arguments(f form) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-monitor", "none", "-serial", "stdio",
	}
	args = append(args, c.machineArguments()...)
	args = append(args, "-kernel", c.Kernel)
	if c.Initrd != "" {
		args = append(args, "-initrd", c.Initrd)
	}
	args = append(args, "-append", c.kernelCmdline())
	for i, d := range c.Disks {
		args = append(args, d.arguments(i, f)...)
	}
	if f == inProcess {
		args = append(args,
			"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD),
			"-mon", "chardev=monitor,mode=control")
		if c.canHang() {
			args = append(args, "-chardev", fmt.Sprintf("socket,id=memory,fd=%d", memoryFD))
		}
	}
	args = append(args, c.vsockArguments(f)...)
	return append(args, c.ExtraArgs...)
}

func (c Config) machineArguments() []string {
	mib := c.Memory >> 20
	machine := "q35,usb=off,vmport=off,memory-backend=ram"
	if c.Machine == MachineMicroVM {
		machine = "microvm,acpi=on,pcie=on,memory-backend=ram"
	}
	// Under TCG "max" has ERMS, so that the kernel copies with "rep movsb", which
	// is emulated byte by byte: without it copies are two to three times faster.
	accel, cpu := "tcg,thread=multi", "max,-erms"
	var clock []string
	switch {
	case c.CountInstructions:
		accel = "tcg,thread=single"
		clock = icountArguments
	case c.Accel == AccelKVM:
		accel, cpu = "kvm", "host"
	}
	return append(slices.Clone(clock),
		"-accel", accel, "-cpu", cpu,
		// QEMU emits memory barriers only if there can be a second CPU; with
		// the device in another process they are needed with one CPU too.
		"-smp", fmt.Sprintf("%d,maxcpus=%d", c.CPUs, max(c.CPUs, 2)),
		"-m", fmt.Sprintf("%dM", mib),
		// Shared, because the vsock device maps it.
		"-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%dM,share=on", mib),
		"-machine", machine,
	)
}

func (c Config) vsockArguments(f form) []string {
	switch {
	case c.Vsock == VsockVhost:
		return []string{"-device", fmt.Sprintf("vhost-vsock-pci,guest-cid=%d", c.CID)}
	case c.Vsock == VsockNone, f == reproducible:
		return nil
	}
	return []string{
		"-chardev", fmt.Sprintf("socket,id=vsock,fd=%d", vsockFD),
		"-device", "vhost-user-vsock-pci,chardev=vsock",
	}
}

func (d Disk) arguments(i int, f form) []string {
	path := d.Path
	switch {
	case d.File != nil && f == inProcess:
		path = fmt.Sprintf("/proc/self/fd/%d", diskFD+i)
	case d.File != nil:
		path = d.File.Name()
	}
	drive := fmt.Sprintf("if=none,id=disk%d,format=raw,file=%s", i, escapeComma(path))
	if d.ReadOnly {
		drive += ",readonly=on"
	}
	device := fmt.Sprintf("virtio-blk-pci,drive=disk%d", i)
	if d.Serial != "" {
		device += ",serial=" + d.Serial
	}
	return []string{"-drive", drive, "-device", device}
}

// escapeComma doubles commas, which separate the options of QEMU's arguments.
func escapeComma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// shellQuote joins words to one line that a POSIX shell takes apart again.
func shellQuote(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quoteWord(w)
	}
	return strings.Join(quoted, " ")
}

func quoteWord(w string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./,=:+@%", r)
	}
	if w != "" && strings.IndexFunc(w, func(r rune) bool { return !plain(r) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
