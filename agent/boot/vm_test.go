//go:build linux && cgo

package boot_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
)

// guestTimeout bounds a VM of these tests, without KVM on a busy machine.
const guestTimeout = 2 * time.Minute

// passes are what testdata/guest says when all is well.
const passes = "ok result\nok mounts\nok links\nok cgroups\nok agent\nok network\nok clock\nok twice\n"

// What the boot has to say of this test's kernel command line, and of a module list that names one that is missing.
const (
	badKey    = `warning level=WARN msg="cannot use bellhop.nonsense=1 from the kernel command line: no such key"` + "\n"
	badModule = `warning level=WARN msg="cannot load module /not/there.ko: no such file or directory"` + "\n"
)

// TestInVM boots a real kernel with testdata/guest as the agent: once from
// nothing, once under an init that has mounted some of it already.
func TestInVM(t *testing.T) {
	agent := buildGuest(t)
	for _, tt := range []struct {
		name string
		spec func(*initramfs.Spec)
		warn string // all that the boot may warn of
	}{
		{"from nothing", func(s *initramfs.Spec) { s.Agent = agent }, badKey},
		{"mounted before", func(s *initramfs.Spec) {
			s.Agent = ""
			s.Files = append(s.Files, earlierInit(agent)...)
		}, badKey + badModule},
	} {
		t.Run(tt.name, func(t *testing.T) {
			console := runGuest(t, tt.spec)
			var said, warned strings.Builder
			for line := range strings.Lines(strings.ReplaceAll(console, "\r", "")) {
				switch {
				case strings.HasPrefix(line, "warning "):
					warned.WriteString(line)
				case strings.HasPrefix(line, "ok "), strings.HasPrefix(line, "FAIL "):
					said.WriteString(line)
				}
			}
			if said.String() != passes {
				t.Errorf("the guest says:\n%s; want:\n%s", said.String(), passes)
			}
			if warned.String() != tt.warn {
				t.Errorf("the boot warns:\n%s; want:\n%s", warned.String(), tt.warn)
			}
			if t.Failed() {
				t.Logf("console:\n%s", console)
			}
		})
	}
}

// earlierInit is a shell script as /init that mounts what scripts mount, lists a
// module that is not there, and then executes the agent as the guest's init.
func earlierInit(agent string) []initramfs.File {
	const script = `#!/busybox sh
/busybox mount -t proc proc /proc
/busybox mount -t sysfs -o nosuid,noexec,nodev sys /sys
/busybox mount -t devtmpfs -o nosuid dev /dev
/busybox mkdir -p /dev/pts
/busybox mount -t devpts -o nosuid,noexec pts /dev/pts
/busybox mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
/busybox mount -o remount,nosuid,noexec,nodev /proc
/busybox sed -i '1i /not/there.ko' /etc/bellhop/modules
exec /sbin/init stray words
`
	return []initramfs.File{
		{Path: "/init", Content: []byte(script), Mode: 0o755},
		{Path: "/busybox", Source: "/bin/busybox", Mode: 0o755},
		{Path: "/sbin/init", Source: agent, Mode: 0o755},
	}
}

// runGuest boots the guest and returns its console when the machine has ended.
func runGuest(t *testing.T, change func(*initramfs.Spec)) string {
	t.Helper()
	g, err := initramfs.Guest{Agent: "-"}.Locate("../../build")
	if err != nil {
		t.Skipf("%v: run make deps", err)
	}
	spec := g.Spec()
	spec.Compression = initramfs.None
	change(&spec)
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := initramfs.BuildFile(initrd, spec); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), guestTimeout)
	defer cancel()
	vm, err := vmm.Start(ctx, vmm.Config{
		Kernel: g.Kernel,
		Initrd: initrd,
		Cmdline: []string{
			"bellhop.port=2048", "bellhop.allow_cid=2,5", "bellhop.loglevel=debug", "bellhop.hostname=desk", "bellhop.clock=1800000000",
			"bellhop.nonsense=1",
		},
		ExtraArgs: []string{"-rtc", "base=1999-01-01"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.Wait(); err != nil {
		t.Errorf("the VM ended with %v; want a power-off", err)
	}
	return vm.ConsoleTail()
}

func buildGuest(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	cmd := exec.Command("go", "build", "-o", path, "-tags", "netgo osusergo",
		"-ldflags", `-s -w -linkmode external -extldflags "-static -no-pie"`, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return path
}
