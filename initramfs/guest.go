package initramfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// GuestModules are the modules that a Bellhop guest loads at boot under QEMU: the vsock device, disks, random numbers, overlay.
func GuestModules() []string {
	return []string{"virtio_pci", "vmw_vsock_virtio_transport", "virtio_blk", "virtio-rng", "overlay"}
}

// OnDemandModules are those that a Bellhop guest loads when something needs them: file systems for the layers of a root, images in files, and quotas.
func OnDemandModules() []string { return []string{"erofs", "squashfs", "loop", "quota_v2"} }

// Guest names the three things that a Bellhop guest is made of.
type Guest struct {
	Kernel  string // kernel image
	Modules string // the lib/modules/VERSION directory of that kernel
	Agent   string // static bellhopd
}

// Locate fills in what is empty in g by looking into dirs in their order: DIR/kernel/vmlinuz, DIR/bellhopd, and for the modules
// lib/modules/VERSION beside the kernel. The error names what is missing, where it was looked for, and how to get it; it wraps fs.ErrNotExist.
func (g Guest) Locate(dirs ...string) (Guest, error) {
	var err error
	if g.Kernel == "" {
		if g.Kernel, err = find("kernel", "kernel/vmlinuz", dirs); err != nil {
			return g, err
		}
	}
	if g.Agent == "" {
		if g.Agent, err = find("guest agent", "bellhopd", dirs); err != nil {
			return g, err
		}
	}
	if g.Modules == "" {
		release, arch, err := KernelVersion(g.Kernel)
		if err != nil {
			return g, err
		}
		if release == "" {
			return g, fmt.Errorf("kernel %s is for %s and does not say its release, so its modules can't be found: use one for %s, or name the modules' directory", g.Kernel, arch, runtime.GOARCH)
		}
		g.Modules = filepath.Join(filepath.Dir(g.Kernel), "lib/modules", release)
		if _, err := os.Stat(g.Modules); err != nil {
			return g, fmt.Errorf("no modules for kernel %s (looked for %s): unpack them from the kernel's package there, or name their directory", g.Kernel, g.Modules)
		}
	}
	return g, nil
}

// Spec is what Build needs for the guest; the caller adds files and trees.
func (g Guest) Spec() Spec {
	return Spec{Kernel: g.Kernel, Agent: g.Agent, ModulesDir: g.Modules, Modules: GuestModules(), OnDemand: OnDemandModules()}
}

func find(what, name string, dirs []string) (string, error) {
	var looked []string
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if slices.Contains(looked, path) {
			continue
		}
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		looked = append(looked, path)
	}
	return "", fmt.Errorf("no %s (looked for %q): make it with `make build`, or name one: %w", what, looked, fs.ErrNotExist)
}
