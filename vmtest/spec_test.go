package vmtest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// TestSpec shows in one machine what each field of an OCI runtime-spec does to a container's first process; docs/oci-spec.md says which subtest shows which field. Its cases are in the
// files spec_*_test.go.
func TestSpec(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	g := newSpecGuest(t)
	for _, cases := range [][]specCase{processCases(), mountCases(), namespaceCases(), resourceCases(), linuxCases(), seccompCases()} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				if out := g.output(t, c.script, c.change); out != c.want {
					t.Errorf("%s = %q; want %q", c.script, out, c.want)
				}
			})
		}
	}
	for _, c := range refusedCases() {
		t.Run(c.name, func(t *testing.T) { g.refused(t, c.field, c.change) })
	}
	for _, tt := range []struct {
		name string
		test func(*testing.T, *guest)
	}{
		{"ConsoleSize", testConsoleSize},
		{"AppArmor", testAppArmor},
		{"ExecAffinity", testExecAffinity},
		{"Hooks", testHooks},
		{"HookNamespaces", testHookNamespaces},
		{"FailingHooks", testFailingHooks},
		{"HookTimeouts", testHookTimeouts},
		{"NewNamespaces", testNewNamespaces},
		{"JoinedNamespaces", testJoinedNamespaces},
		{"JoinedMountNamespace", testJoinedMountNamespace},
		{"TimeOffsets", testTimeOffsets},
		{"NetDevices", testNetDevices},
		{"BlockIOWeight", testBlockIOWeight},
		{"SeccompExec", testSeccompExec},
		{"DefaultSeccomp", testDefaultSeccomp},
		{"DefaultPrograms", testDefaultPrograms},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, g) })
	}
}

// A specCase is a change of the default spec, and what a script of the shell then says in the container.
type specCase struct {
	name   string
	change func(*specs.Spec)
	script string
	want   string // without the last newline
}

func unchanged(*specs.Spec) {}

// A refusedCase is a change of the default spec, and the field by whose name it is refused, in the guest, before anything is made.
type refusedCase struct {
	name   string
	change func(*specs.Spec)
	field  string
}

// diskFiles is where the guest has the disk with an ext4, whose number is diskMajor:0.
const diskFiles, diskMajor = "/run/disk", 254

// newSpecGuest boots the machine: with two processors, huge pages, a disk, and network interfaces that are not real.
func newSpecGuest(t *testing.T) *guest {
	t.Helper()
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "file"), []byte("on disk\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	disk, err := vmm.TempExt4(t.Context(), files, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	g := &guest{VM: vmtest.Start(
		t, vmtest.Busybox(), vmtest.CPUs(2), vmtest.Memory(768<<20), vmtest.Modules("dummy", "ext4", "virtio_blk"), vmtest.KernelArgs("hugepages=4"),
		vmtest.Machine(func(c *vmm.Config) { c.Disks = append(c.Disks, vmm.Disk{File: disk}) }), bfqModule(t),
	)}
	g.root(t, "mkdir -p "+diskFiles+" /run/spec && mount -t ext4 /dev/vda "+diskFiles)
	return g
}

// bfqModule gives the guest the module of the IO scheduler BFQ as /bfq.ko, not loaded.
func bfqModule(t *testing.T) vmtest.Option {
	t.Helper()
	found, err := filepath.Glob("../build/kernel/lib/modules/*/kernel/block/bfq.ko")
	if err != nil || len(found) == 0 {
		t.Fatalf("no bfq.ko for the guest: %v", err)
	}
	module, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return vmtest.Files(initramfs.File{Path: "/bfq.ko", Content: module})
}

// output runs a script as the first process of a container with the changed default spec, and gives its output without the last newline. The script must succeed.
func (g *guest) output(t *testing.T, script string, changes ...func(*specs.Spec)) string {
	t.Helper()
	spec := containerSpec(script)
	for _, change := range changes {
		change(spec)
	}
	status, out := g.run(t, hostclient.ProcessConfig{Spec: spec})
	if !status.Success() {
		t.Errorf("%s: %v", script, status)
	}
	return strings.TrimSuffix(strings.ReplaceAll(out, "\r\n", "\n"), "\n")
}

// refused creates a container with the changed default spec, and wants that to be refused for the field.
func (g *guest) refused(t *testing.T, field string, change func(*specs.Spec)) {
	t.Helper()
	spec := containerSpec("true")
	change(spec)
	err := g.process(t, hostclient.ProcessConfig{Spec: spec}).Create(deadline(t))
	var status *protocol.StatusError
	if !errors.As(err, &status) || status.PB.Field != field || !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Create() = %v; want invalid argument, of the field %q", err, field)
	}
}
