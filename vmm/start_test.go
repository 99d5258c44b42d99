//go:build linux

package vmm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// arm64Kernel is the head of an arm64 Image, which is all that is looked at.
func arm64Kernel(t *testing.T) string {
	t.Helper()
	image := make([]byte, 64)
	copy(image[0x38:], "ARM\x64")
	path := filepath.Join(t.TempDir(), "Image")
	writeFile(t, path, string(image))
	return path
}

// TestStartErrors wants one line each that says what is missing, and no QEMU left.
func TestStartErrors(t *testing.T) {
	good := testConfig(t, "hang")
	text := filepath.Join(t.TempDir(), "text")
	writeFile(t, text, "hello")
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no kernel named", func(c *Config) { c.Kernel = "" }, "no kernel is named: set Config.Kernel"},
		{"missing kernel", func(c *Config) { c.Kernel = "/no/vmlinuz" }, "kernel: open /no/vmlinuz: no such file or directory"},
		{"not a kernel", func(c *Config) { c.Kernel = text }, "not a Linux kernel image: want an x86-64 bzImage"},
		{"arm64 kernel", func(c *Config) { c.Kernel = arm64Kernel(t) }, "is for arm64: want amd64"},
		{"missing initrd", func(c *Config) { c.Initrd = "/no/initrd" }, "initrd: open /no/initrd: no such file or directory"},
		{"missing QEMU", func(c *Config) { c.QEMU = "no-such-qemu" }, "cannot find QEMU: exec: \"no-such-qemu\": executable file not found in $PATH (apt-get install qemu-system-x86"},
		{"not QEMU", func(c *Config) { c.QEMU = "/bin/false" }, "QEMU: exit status 1"},
		{"QEMU not executable", func(c *Config) { c.QEMU = text }, "permission denied"},
		{"rejected option", func(c *Config) { c.ExtraArgs = []string{"-no-such-option"} }, "-no-such-option: invalid option"},
		{"rejected device", func(c *Config) { c.ExtraArgs = []string{"-device", "flux-capacitor"} }, "'flux-capacitor' is not a valid device model name"},
		{"too little memory", func(c *Config) { c.Memory = 1 << 20 }, "give the guest 64 MiB or more"},
		{"too much memory", func(c *Config) { c.Memory = 1 << 50 }, "memory: lower Config.Memory"},
		{"too many CPUs", func(c *Config) { c.CPUs = 1000 }, "1000 CPUs are out of range"},
		{"missing disk", func(c *Config) { c.Disks = []Disk{{Path: "/no/disk"}} }, "disk: open /no/disk: no such file or directory"},
		{"directory as disk", func(c *Config) { c.Disks = []Disk{{Path: "/", ReadOnly: true}} }, "disk: / is a directory"},
		{"no disk", func(c *Config) { c.Disks = []Disk{{}} }, "a disk needs either a path or a file"},
		{"bad serial", func(c *Config) { c.Disks = []Disk{{Path: text, Serial: "a,b"}} }, `serial "a,b" is not`},
		{"bad parameter", func(c *Config) { c.Cmdline = []string{"a\nb"} }, `kernel parameter "a\nb"`},
		{"long command line", func(c *Config) { c.Cmdline = []string{strings.Repeat("x", 2048)} }, "the kernel takes 2047"},
		{"reserved CID", func(c *Config) { c.Vsock, c.CID = VsockVhost, 2 }, "CID 2 cannot be a guest's"},
		{"CID without vhost", func(c *Config) { c.CID = 7 }, "Config.CID is for VsockVhost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			vm, err := Start(t.Context(), cfg)
			if err == nil {
				vm.Close()
			}
			wantError(t, err, tt.want)
			if err != nil && !strings.HasPrefix(err.Error(), "cannot start VM: ") {
				t.Errorf("error %q; want it to begin with what failed", err)
			}
			if children := qemuChildren(t); len(children) != 0 {
				t.Errorf("children: %v; want none", children)
			}
		})
	}
}

func TestVhostWithoutDevice(t *testing.T) {
	if _, err := os.Stat("/dev/vhost-vsock"); err == nil {
		t.Skip("this host has /dev/vhost-vsock: unload vhost_vsock to see the error")
	}
	cfg := testConfig(t, "hang")
	cfg.Vsock, cfg.CID = VsockVhost, 42
	_, err := Start(t.Context(), cfg)
	wantError(t, err, "open /dev/vhost-vsock: no such file or directory: load the module (modprobe vhost_vsock) or use VsockUser")
}

// TestLeavesNothing counts descriptors and goroutines over starts of every
// outcome; the temporary directory is looked at too.
func TestLeavesNothing(t *testing.T) {
	cfg := testConfig(t, "hang")
	cfg.Vsock = VsockUser
	t.Setenv("TMPDIR", t.TempDir())
	once := func() {
		vm, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		vm.Close()
		bad := cfg
		bad.ExtraArgs = []string{"-no-such-option"}
		if _, err := Start(t.Context(), bad); err == nil {
			t.Fatal("Start() = nil error; want one")
		}
		bad = cfg
		bad.QEMU = cfg.Kernel // exists, but is no program
		if _, err := Start(t.Context(), bad); err == nil {
			t.Fatal("Start() = nil error; want one")
		}
	}
	once() // what is opened once and kept, such as epoll's descriptor
	before := countOpen(t)
	for range 3 {
		once()
	}
	deadline := time.Now().Add(5 * time.Second)
	for after := countOpen(t); after.fds > before.fds || after.goroutines > before.goroutines; after = countOpen(t) {
		if time.Now().After(deadline) {
			t.Fatalf("after the VMs: %+v; before: %+v", after, before)
		}
		time.Sleep(10 * time.Millisecond) // polling: a joined goroutine still has to leave its last function
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v; want nothing", left)
	}
}
