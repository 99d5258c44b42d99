package vmtest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
)

// Option changes the machine that Start and Boot make.
type Option func(*config) error

type config struct {
	machine vmm.Config
	initrd  initramfs.Spec
	client  hostclient.Config
	connect bool
	dir     string // for files, removed with the machine
}

// Memory gives the machine that many bytes.
func Memory(bytes int64) Option {
	return func(c *config) error { c.machine.Memory = bytes; return nil }
}

// CPUs gives the machine n processors.
func CPUs(n int) Option {
	return func(c *config) error { c.machine.CPUs = n; return nil }
}

// Modules loads more kernel modules at boot.
func Modules(names ...string) Option {
	return func(c *config) error { c.initrd.Modules = append(c.initrd.Modules, names...); return nil }
}

// KernelArgs appends to the kernel's command line.
func KernelArgs(args ...string) Option {
	return func(c *config) error { c.machine.Cmdline = append(c.machine.Cmdline, args...); return nil }
}

// Files adds files to the guest's root.
func Files(files ...initramfs.File) Option {
	return func(c *config) error { c.initrd.Files = append(c.initrd.Files, files...); return nil }
}

// Tree copies a directory of the host to guestDir in the guest's root.
func Tree(hostDir, guestDir string) Option {
	return func(c *config) error {
		c.initrd.Trees = append(c.initrd.Trees, initramfs.Tree{HostDir: hostDir, GuestDir: guestDir})
		return nil
	}
}

// Client changes the configuration of the client.
func Client(change func(*hostclient.Config)) Option {
	return func(c *config) error { change(&c.client); return nil }
}

// Machine changes the machine's configuration in any other way.
func Machine(change func(*vmm.Config)) Option {
	return func(c *config) error { change(&c.machine); return nil }
}

// NoClient starts the machine without connecting: VM.Client is nil.
func NoClient() Option {
	return func(c *config) error { c.connect = false; return nil }
}

// Rootfs is where Busybox puts its root file system in the guest.
const Rootfs = "/rootfs/busybox"

// Busybox adds a root file system of busybox and its links at Rootfs, with a user and group nobody (65534) beside root. It needs the host's static
// busybox (Debian: busybox-static).
func Busybox() Option {
	return func(c *config) error {
		dir := filepath.Join(c.dir, "busybox")
		if err := writeBusybox(dir); err != nil {
			return fmt.Errorf("cannot make a root file system of busybox: %w", err)
		}
		c.initrd.Trees = append(c.initrd.Trees, initramfs.Tree{HostDir: dir, GuestDir: Rootfs})
		return nil
	}
}

// writeBusybox makes the root file system in dir.
func writeBusybox(dir string) error {
	for _, sub := range []string{"bin", "dev", "etc", "proc", "sys", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(tmp, fs.ModeSticky|0o777); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":  "root:x:0:\nnobody:x:65534:\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return linkApplets(filepath.Join(dir, "bin"))
}

func linkApplets(bin string) error {
	const source = "/bin/busybox"
	program, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), program, 0o755); err != nil {
		return err
	}
	list, err := exec.Command(source, "--list").Output()
	if err != nil {
		return err
	}
	for _, applet := range strings.Fields(string(list)) {
		if applet == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(bin, applet)); err != nil {
			return err
		}
	}
	return nil
}
