package vmm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Accel is what runs the guest's instructions.
type Accel int

// The accelerators.
const (
	AccelAuto Accel = iota // KVM where it truly works, else TCG
	AccelKVM               // the host's CPU
	AccelTCG               // emulation: works everywhere, some ten times slower
)

// AccelEnv is the environment variable that forces an accelerator, kvm or tcg,
// whatever the Config says.
const AccelEnv = "BELLHOP_ACCEL"

// String returns QEMU's name of the accelerator.
func (a Accel) String() string { return nameOf(int(a), "Accel", "auto", "kvm", "tcg") }

// host is what the choice of an accelerator depends on; tests make their own.
type host struct {
	arch    string // GOARCH
	cpuinfo string // path of /proc/cpuinfo
	kvm     string // path of /dev/kvm
	accel   string // value of AccelEnv
}

func thisHost() host {
	return host{arch: runtime.GOARCH, cpuinfo: "/proc/cpuinfo", kvm: "/dev/kvm", accel: os.Getenv(AccelEnv)}
}

// choose resolves AccelAuto and the environment. KVM that is asked for but
// cannot work is an error; KVM that is merely hoped for is not.
func (h host) choose(want Accel) (Accel, error) {
	switch h.accel {
	case "":
	case "kvm":
		want = AccelKVM
	case "tcg":
		want = AccelTCG
	default:
		return 0, fmt.Errorf("%s is %q: want kvm, tcg or nothing", AccelEnv, h.accel)
	}
	switch want {
	case AccelTCG:
		return AccelTCG, nil
	case AccelKVM:
		return AccelKVM, h.openKVM()
	case AccelAuto:
		if h.hasVirtualization() && h.openKVM() == nil {
			return AccelKVM, nil
		}
		return AccelTCG, nil
	}
	return 0, fmt.Errorf("unknown accelerator %v", want)
}

// hasVirtualization says whether the CPU shows vmx or svm. Where it does not,
// /dev/kvm may exist and open all the same, and a guest then hangs in it.
func (h host) hasVirtualization() bool {
	if h.arch != "amd64" {
		return false // the guest is x86-64
	}
	f, err := os.Open(h.cpuinfo)
	if err != nil {
		return false
	}
	defer f.Close()
	flags := strings.Fields(cpuinfoField(f, "flags"))
	return slices.Contains(flags, "vmx") || slices.Contains(flags, "svm")
}

func (h host) openKVM() error {
	f, err := os.OpenFile(h.kvm, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("KVM does not work here: %w (use %s=tcg, or see that your user may open it)", err, AccelEnv)
	}
	return f.Close()
}

// cpuinfoField returns the first CPU's value of a field in /proc/cpuinfo.
func cpuinfoField(r io.Reader, field string) string {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
