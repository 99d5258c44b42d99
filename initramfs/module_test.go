//go:build linux

package initramfs

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// fakeModule is the smallest ELF file with a .modinfo section.
func fakeModule(modinfo string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	var out bytes.Buffer
	const headerSize, sectionSize = 64, 64
	modinfoAt := uint64(headerSize)
	namesAt := modinfoAt + uint64(len(modinfo))
	binary.Write(&out, binary.LittleEndian, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: namesAt + uint64(len(names)), Ehsize: headerSize, Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	})
	out.WriteString(modinfo + names)
	binary.Write(&out, binary.LittleEndian, []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: modinfoAt, Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	})
	return out.Bytes()
}

// fakeModules lays out a modules directory; modinfo by path below it.
func fakeModules(t *testing.T, modinfo map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, info := range modinfo {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, packModule(t, path, info), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func packModule(t *testing.T, path, info string) []byte {
	t.Helper()
	image := fakeModule(info)
	var out bytes.Buffer
	switch filepath.Ext(path) {
	case ".gz":
		w := gzip.NewWriter(&out)
		w.Write(image)
		w.Close()
	case ".zst":
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(image)
		w.Close()
	case ".builtin":
		return []byte(info)
	default:
		return image
	}
	return out.Bytes()
}

func resolve(dir string, wanted []string, t target) ([]*module, error) {
	ix, err := indexModules(dir)
	if err != nil {
		return nil, err
	}
	return ix.resolve(wanted, t)
}

func TestParseModinfo(t *testing.T) {
	tests := []struct {
		data string
		want modinfo
	}{
		{"", modinfo{}},
		{"license=GPL\x00depends=\x00", modinfo{}},
		{"depends=virtio,virtio-ring\x00vermagic=6.1.0-1-cloud SMP preempt ", modinfo{depends: []string{"virtio", "virtio_ring"}, release: "6.1.0-1-cloud"}},
		{"softdep=pre: a b-c post: d\x00softdep=post: e pre: f", modinfo{softPre: []string{"a", "b_c", "f"}}},
		{"softdep=stray\x00=\x00depends", modinfo{}},
	}
	for _, tt := range tests {
		if got := parseModinfo(tt.data); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("parseModinfo(%q) = %+v; want %+v", tt.data, got, tt.want)
		}
	}
}

func TestResolve(t *testing.T) {
	dir := fakeModules(t, map[string]string{
		"kernel/top-most.ko":    "depends=left,right\x00vermagic=1 x",
		"kernel/left.ko.gz":     "depends=bottom\x00vermagic=1 x",
		"kernel/right.ko.zst":   "depends=bottom\x00softdep=pre: crypto-sum absent built\x00vermagic=1 x",
		"kernel/bottom.ko":      "depends=built\x00vermagic=1 x",
		"kernel/old.ko":         "depends=bottom\x00vermagic=1 x",
		"updates/dkms/old.ko":   "depends=\x00vermagic=1 x",
		"kernel/sum_generic.ko": "depends=\x00vermagic=1 x",
		"kernel/soft_a.ko":      "softdep=pre: soft_b\x00vermagic=1 x",
		"kernel/soft_b.ko":      "softdep=pre: soft_a\x00vermagic=1 x",
		"modules.builtin":       "kernel/lib/built.ko\n",
	})
	tests := []struct {
		want  string
		order string
	}{
		{"top_most", "bottom left sum_generic right top_most"},
		{"top-most left bottom", "bottom left sum_generic right top_most"},
		{"built", ""},
		{"old", "old"},
		{"soft_a", "soft_b soft_a"},
	}
	for _, tt := range tests {
		mods, err := resolve(dir, strings.Fields(tt.want), target{})
		if err != nil {
			t.Errorf("resolve(%q): %v", tt.want, err)
			continue
		}
		var names []string
		for _, m := range mods {
			names = append(names, m.name)
		}
		if got := strings.Join(names, " "); got != tt.order {
			t.Errorf("resolve(%q) = %q; want %q", tt.want, got, tt.order)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	dir := fakeModules(t, map[string]string{
		"lonely.ko":    "depends=missing\x00vermagic=1 x",
		"loop_a.ko":    "depends=loop_b\x00vermagic=1 x",
		"loop_b.ko":    "depends=loop_a\x00vermagic=1 x",
		"other.ko":     "depends=\x00vermagic=2 x",
		"good.ko":      "depends=\x00vermagic=1 x",
		"packed.ko.xz": "",
	})
	writeFile(t, filepath.Join(dir, "broken.ko"), "not an ELF file")
	writeFile(t, filepath.Join(dir, "broken_gz.ko.gz"), "not gzip")
	tests := []struct {
		want   string
		target target
		text   string
	}{
		{"nothing", target{}, "module nothing is neither in " + dir + " nor built into its kernel"},
		{"lonely", target{}, "module lonely: module missing is neither in"},
		{"loop_a", target{}, "depends on itself"},
		{"good other", target{}, "module other is for kernel 2, but module good is for 1"},
		{"good", target{release: "3", path: "/k"}, "module good is for kernel 1, but /k is 3"},
		{"packed", target{}, "xz is not supported"},
		{"broken", target{}, "broken.ko: not a kernel module"},
		{"broken_gz", target{}, "broken_gz.ko.gz"},
	}
	for _, tt := range tests {
		_, err := resolve(dir, strings.Fields(tt.want), tt.target)
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("resolve(%q) = %v; want %q in it", tt.want, err, tt.text)
		}
	}
}

// TestOnDemand builds lists of modules beside the one of the boot. They may share modules.
func TestOnDemand(t *testing.T) {
	dir := fakeModules(t, map[string]string{
		"kernel/disk.ko":  "depends=sum\x00vermagic=1 x",
		"kernel/sum.ko":   "depends=\x00vermagic=1 x",
		"kernel/fs-a.ko":  "depends=sum,tree\x00vermagic=1 x",
		"kernel/tree.ko":  "depends=\x00vermagic=1 x",
		"modules.builtin": "kernel/fs/built.ko\n",
	})
	entries, err := readArchive(buildBytes(t, Spec{
		ModulesDir: dir, Modules: []string{"disk"}, OnDemand: []string{"fs-a", "built", "absent"}, Compression: None,
	}))
	if err != nil {
		t.Fatal(err)
	}
	lists := make(map[string]string)
	for _, e := range entries {
		if e.Mode&typeMask == typeRegular && strings.HasPrefix(e.Name, "etc/bellhop/") {
			lists[e.Name] = strings.ReplaceAll(string(e.content), "/usr/lib/bellhop/modules/", "")
		}
	}
	want := map[string]string{"etc/bellhop/modules": "sum.ko\ndisk.ko\n", "etc/bellhop/modules.d/fs_a": "sum.ko\ntree.ko\nfs_a.ko\n"}
	if !maps.Equal(lists, want) {
		t.Errorf("lists = %q; want %q", lists, want)
	}
}

// TestRealModules resolves what the agent loads from the real kernel.
func TestRealModules(t *testing.T) {
	kernel := filepath.Join("..", "build", "kernel", "vmlinuz")
	release, arch, err := KernelVersion(kernel)
	if err != nil {
		t.Skipf("no kernel (%v): run make deps", err)
	}
	if arch != "amd64" {
		t.Errorf("KernelVersion() arch = %q; want amd64", arch)
	}
	dir := filepath.Join("..", "build", "kernel", "lib", "modules", release)
	mods, err := resolve(dir, []string{"virtio-pci", "vmw_vsock_virtio_transport"}, target{release: release})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range mods {
		names = append(names, m.name)
	}
	want := "virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio virtio_pci vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("order = %q; want %q", got, want)
	}
}

func FuzzModinfo(f *testing.F) {
	f.Add(fakeModule("depends=a,b\x00softdep=pre: c\x00vermagic=1 x"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, image []byte) {
		info, err := readModinfo(bytes.NewReader(image))
		if err != nil {
			return
		}
		for _, name := range append(info.depends, info.softPre...) {
			if name == "" || strings.Contains(name, "-") || strings.Contains(name, "\x00") {
				t.Errorf("readModinfo(%q) gives the name %q", image, name)
			}
		}
	})
}
