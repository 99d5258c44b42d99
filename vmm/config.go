package vmm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/bellhop-vm/bellhop/initramfs/kernelimage"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// Defaults and bounds of a Config.
const (
	DefaultMemory = 512 << 20
	MinMemory     = 64 << 20 // less does not hold an unpacked initramfs
	DefaultCPUs   = 2

	maxCPUs         = 255 // of QEMU's x86 machines without an IOMMU
	maxDisks        = 16
	maxDiskSerial   = 20   // VIRTIO_BLK_ID_BYTES
	firstGuestCID   = 3    // 0 to 2 are the hypervisor, loopback and the host
	maxKernelParams = 2047 // COMMAND_LINE_SIZE of x86, less the NUL
)

// Config describes a virtual machine. Only Kernel must be given.
type Config struct {
	// Kernel is an x86-64 bzImage, Initrd an initial file system, such as
	// package initramfs makes; it may be empty.
	Kernel, Initrd string

	// Cmdline is appended to the base of the kernel's command line, one
	// parameter each. A parameter with spaces needs the kernel's own quotes.
	Cmdline []string

	// Memory is the guest's, in bytes, rounded up to a MiB; 0: DefaultMemory.
	// The host pays only for pages that the guest has touched.
	Memory int64

	// CPUs is the number of virtual CPUs; 0: DefaultCPUs, or 1 with
	// CountInstructions.
	CPUs int

	Machine Machine
	Accel   Accel

	// CountInstructions makes the guest's clock count its instructions, at 2 ns
	// each, and nothing else: what is measured by that clock hardly depends on
	// the host and how busy it is. The guest's time is then not the host's: a
	// second of sleep in the guest can take ten. CPUs take turns in one thread,
	// and one that idles counts its instructions too, so that more than one CPU
	// has little use. It needs TCG, and is refused with KVM.
	CountInstructions bool

	// Vsock chooses who serves the vsock device. With VsockUser CID 3 (or
	// DeviceConfig's) is private to the VM; with VsockVhost the CID must be
	// unique on the host, nor may it be the host's own where that is a guest
	// itself, and Dial and Listen are those of AF_VSOCK.
	Vsock Vsock
	CID   uint32

	Disks []Disk

	// Console gets a copy of all that the guest writes to its console. A Write
	// that blocks holds the guest up; one that fails is the last. May be nil.
	Console io.Writer

	// QEMU is the binary: a path, or a name in PATH. Empty: the environment
	// variable BELLHOP_QEMU, or qemu-system-x86_64.
	QEMU string

	// ExtraArgs are appended to QEMU's arguments.
	ExtraArgs []string

	DeviceConfig *vsockdev.Config // for VsockUser; nil: defaults
	Logger       *slog.Logger     // nil: silent
}

// Disk is a raw image that the guest sees as a virtio block device, in the
// order of Config.Disks: /dev/vda, /dev/vdb, …
type Disk struct {
	// Path names the image; or File is it, open for what the guest may do, and
	// needs no name (see TempExt4). The caller closes File after the VM's end.
	Path string
	File *os.File

	ReadOnly bool
	Serial   string // at most 20 bytes; in the guest: /sys/block/vdX/serial
}

// Machine is QEMU's machine type.
type Machine int

// The machine types.
const (
	MachineAuto    Machine = iota // MachineQ35, which boots every kernel we know
	MachineQ35                    // PCI Express
	MachineMicroVM                // minimal, with PCI Express; boots faster; under TCG its clock is only as good as the "cpu MHz" of /proc/cpuinfo
)

// String returns QEMU's name of the machine.
func (m Machine) String() string {
	return nameOf(int(m), "Machine", "auto", "q35", "microvm")
}

// Vsock says who serves the guest's vsock device.
type Vsock int

// The ways to serve vsock.
const (
	VsockUser  Vsock = iota // this process, without privilege
	VsockVhost              // the host's kernel, through /dev/vhost-vsock
	VsockNone               // nobody: the guest has no such device
)

// String returns the name of the way.
func (v Vsock) String() string { return nameOf(int(v), "Vsock", "user", "vhost", "none") }

func nameOf(i int, kind string, names ...string) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprintf("%s(%d)", kind, i)
	}
	return names[i]
}

// withDefaults returns c with every default filled in.
func (c Config) withDefaults() Config {
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	const mib = 1 << 20
	if rest := c.Memory % mib; rest > 0 {
		c.Memory += mib - rest
	}
	if c.CPUs == 0 {
		c.CPUs = DefaultCPUs
		if c.CountInstructions {
			c.CPUs = 1
		}
	}
	if c.Machine == MachineAuto {
		c.Machine = MachineQ35
	}
	if c.QEMU == "" {
		c.QEMU = os.Getenv("BELLHOP_QEMU")
	}
	if c.QEMU == "" {
		c.QEMU = "qemu-system-x86_64"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// check refuses what QEMU or the guest would fail on with less to say.
func (c Config) check() error {
	for _, check := range []func() error{
		c.checkKernel, c.checkInitrd, c.checkCmdline, c.checkSize, c.checkVsock, c.checkDisks,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkKernel() error {
	if c.Kernel == "" {
		return errors.New("no kernel is named: set Config.Kernel to an x86-64 bzImage, such as Debian's package linux-image-cloud-amd64 holds")
	}
	info, err := kernelimage.Read(c.Kernel)
	switch {
	case errors.Is(err, kernelimage.ErrNotKernel):
		return fmt.Errorf("%w: want an x86-64 bzImage, such as Debian's package linux-image-cloud-amd64 holds", err)
	case err != nil:
		return err
	case info.Arch != "amd64":
		return fmt.Errorf("kernel %s is for %s: want amd64 (x86-64)", c.Kernel, info.Arch)
	}
	return nil
}

func (c Config) checkInitrd() error {
	if c.Initrd == "" {
		return nil
	}
	return checkFile("initrd", c.Initrd, os.O_RDONLY)
}

func (c Config) checkCmdline() error {
	for _, p := range c.Cmdline {
		if p == "" || strings.ContainsAny(p, "\x00\n") {
			return fmt.Errorf("kernel parameter %q is empty or has a newline or NUL in it", p)
		}
	}
	if n := len(c.kernelCmdline()); n > maxKernelParams {
		return fmt.Errorf("the kernel command line has %d bytes: the kernel takes %d", n, maxKernelParams)
	}
	return nil
}

func (c Config) checkSize() error {
	if c.Memory < MinMemory {
		return fmt.Errorf("memory of %d bytes is too little: give the guest %d MiB or more", c.Memory, MinMemory>>20)
	}
	if c.CPUs < 1 || c.CPUs > maxCPUs {
		return fmt.Errorf("%d CPUs are out of range: want 1 to %d", c.CPUs, maxCPUs)
	}
	if c.Machine != MachineQ35 && c.Machine != MachineMicroVM {
		return fmt.Errorf("unknown machine %v", c.Machine)
	}
	return nil
}

func (c Config) checkVsock() error {
	switch c.Vsock {
	case VsockUser, VsockNone:
		if c.CID != 0 {
			return errors.New("Config.CID is for VsockVhost: with VsockUser set DeviceConfig.GuestCID")
		}
		return nil
	case VsockVhost:
		if c.CID < firstGuestCID || c.CID == ^uint32(0) {
			return fmt.Errorf("CID %d cannot be a guest's: want %d or more, unique on this host", c.CID, firstGuestCID)
		}
		if err := checkFile("vhost-vsock", "/dev/vhost-vsock", os.O_RDWR); err != nil {
			return fmt.Errorf("%w: load the module (modprobe vhost_vsock) or use VsockUser", err)
		}
		return nil
	}
	return fmt.Errorf("unknown vsock kind %v", c.Vsock)
}

func (c Config) checkDisks() error {
	if len(c.Disks) > maxDisks {
		return fmt.Errorf("%d disks are too many: want at most %d", len(c.Disks), maxDisks)
	}
	for _, d := range c.Disks {
		if (d.Path == "") == (d.File == nil) {
			return errors.New("a disk needs either a path or a file")
		}
		flag := os.O_RDWR
		if d.ReadOnly {
			flag = os.O_RDONLY
		}
		if d.File == nil {
			if err := checkFile("disk", d.Path, flag); err != nil {
				return err
			}
		}
		if len(d.Serial) > maxDiskSerial || slices.ContainsFunc([]byte(d.Serial), notSerialByte) {
			return fmt.Errorf("disk %s: serial %q is not up to %d letters, digits, '-', '_' or '.'", d.Path, d.Serial, maxDiskSerial)
		}
	}
	return nil
}

func notSerialByte(b byte) bool {
	return !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_' || b == '.')
}

// checkFile opens path as QEMU will, so that the error is ours and one line.
func checkFile(what, path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if st.IsDir() {
		return fmt.Errorf("%s: %s is a directory", what, path)
	}
	return nil
}
