//go:build linux

package initramfs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// sampleSpec has one of everything.
func sampleSpec(t *testing.T) Spec {
	t.Helper()
	tree := t.TempDir()
	if err := os.Chmod(tree, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(tree, "one"), "same file")
	if err := os.Link(filepath.Join(tree, "one"), filepath.Join(tree, "two")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("one", filepath.Join(tree, "three")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(tree, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := filepath.Join(t.TempDir(), "agent")
	writeFile(t, agent, "#!/bin/sh\n")
	return Spec{
		Agent: agent,
		Files: []File{
			{Path: "/deep/below/file", Content: []byte("content"), Mode: 0o750 | fs.ModeSetuid, UID: 1, GID: 2},
			{Path: "/opt", Mode: fs.ModeDir | 0o700},
		},
		Trees: []Tree{{HostDir: tree, GuestDir: "/opt/tree"}},
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

func buildBytes(t *testing.T, spec Spec) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Build(&out, spec); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBuild(t *testing.T) {
	spec := sampleSpec(t)
	spec.Compression = None
	entries, err := readArchive(buildBytes(t, spec))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]entry)
	for i, e := range entries {
		got[e.Name] = e
		if i > 1 && e.Name <= entries[i-1].Name {
			t.Errorf("%q comes behind %q; want sorted names", e.Name, entries[i-1].Name)
		}
	}
	tests := []struct {
		name    string
		mode    uint32
		nlink   uint32
		content string
	}{
		{".", 0o40755, 2, ""},
		{"init", 0o100755, 1, "#!/bin/sh\n"},
		{"dev/console", 0o20600, 1, ""},
		{"tmp", 0o41777, 2, ""},
		{"etc/bellhop/modules", 0o100644, 1, ""},
		{"deep/below", 0o40755, 2, ""},
		{"deep/below/file", 0o104750, 1, "content"},
		{"opt", 0o40700, 2, ""},
		{"opt/tree/fifo", 0o10600, 1, ""},
		{"opt/tree/one", 0o100644, 2, ""},
		{"opt/tree/two", 0o100644, 2, "same file"},
		{"opt/tree/three", 0o120777, 1, "one"},
	}
	for _, tt := range tests {
		e, ok := got[tt.name]
		if !ok || e.Mode != tt.mode || e.Nlink != tt.nlink || string(e.content) != tt.content {
			t.Errorf("%s = %v, mode %o, %d links, %q; want %o, %d, %q", tt.name, ok, e.Mode, e.Nlink, e.content, tt.mode, tt.nlink, tt.content)
		}
	}
	if got["opt/tree/one"].Ino != got["opt/tree/two"].Ino {
		t.Error("hard links have different inode numbers")
	}
	if f := got["deep/below/file"]; f.UID != 1 || f.GID != 2 {
		t.Errorf("owner %d:%d; want 1:2", f.UID, f.GID)
	}
	if c := got["dev/console"]; c.RdevMajor != 5 || c.RdevMinor != 1 {
		t.Errorf("console is %d:%d; want 5:1", c.RdevMajor, c.RdevMinor)
	}
}

// TestDeterministic builds equal inputs at different places and times.
func TestDeterministic(t *testing.T) {
	for c := None; c <= Zstd; c++ {
		first, second := sampleSpec(t), sampleSpec(t)
		old := time.Unix(1e9, 0)
		if err := os.Chtimes(filepath.Join(second.Trees[0].HostDir, "one"), old, old); err != nil {
			t.Fatal(err)
		}
		first.Compression, second.Compression = c, c
		if !bytes.Equal(buildBytes(t, first), buildBytes(t, second)) {
			t.Errorf("%v: equal inputs give different bytes", c)
		}
	}
}

// TestGoldenBuild notices a change of the layout, which must be meant.
func TestGoldenBuild(t *testing.T) {
	spec := sampleSpec(t)
	spec.Compression = None
	sum := sha256.Sum256(buildBytes(t, spec))
	const want = "91a621f5ca1d665b41faa1799f273a1ce3e60514bd606926f96fd6cacfb4d1b8"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("sum of the sample archive is %s; want %s", got, want)
	}
}

func TestCompressions(t *testing.T) {
	spec := sampleSpec(t)
	spec.Compression = None
	plain := buildBytes(t, spec)
	spec.Compression = Gzip
	zr, err := gzip.NewReader(bytes.NewReader(buildBytes(t, spec)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(zr); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("gzip does not give the archive back: %v", err)
	}
	spec.Compression = Zstd
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	if got, err := dec.DecodeAll(buildBytes(t, spec), nil); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("zstd does not give the archive back: %v", err)
	}
	for c := Default; c <= Zstd; c++ {
		if got, err := ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("ParseCompression(%q) = %v, %v; want %v", c.String(), got, err, c)
		}
	}
	if _, err := ParseCompression("lzma"); err == nil {
		t.Error(`ParseCompression("lzma") = nil error; want one`)
	}
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away: run as root")
	}
	spec := sampleSpec(t)
	spec.Compression = None
	one := filepath.Join(spec.Trees[0].HostDir, "one")
	if err := os.Chown(one, 1234, 70000); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []bool{false, true} {
		spec.Trees[0].KeepOwners = keep
		entries, err := readArchive(buildBytes(t, spec))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name != "opt/tree/one" {
				continue
			}
			if got := e.UID == 1234 && e.GID == 70000; got != keep {
				t.Errorf("KeepOwners %v: owner is %d:%d", keep, e.UID, e.GID)
			}
		}
	}
}

func TestBuildErrors(t *testing.T) {
	dir := t.TempDir()
	dynamic := "/bin/ls"
	text := filepath.Join(dir, "text")
	writeFile(t, text, "this is not a program")
	trailer := filepath.Join(dir, "trailer")
	if err := os.Mkdir(trailer, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(trailer, "TRAILER!!!"), "")
	file := func(f File) Spec { return Spec{Files: []File{f}} }
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"missing agent", Spec{Agent: "/no/agent"}, "agent: open /no/agent: no such file or directory"},
		{"dynamic agent", Spec{Agent: dynamic}, "agent /bin/ls is linked dynamically: link it statically"},
		{"agent no program", Spec{Agent: text}, "is neither a Linux executable nor a script"},
		{"missing kernel", Spec{Kernel: "/no/kernel"}, "kernel: open /no/kernel: no such file or directory"},
		{"kernel no kernel", Spec{Kernel: text}, "kernel " + text + ": not a Linux kernel image"},
		{"modules without directory", Spec{Modules: []string{"virtio"}}, "no modules directory is named"},
		{"missing modules directory", Spec{ModulesDir: "/no/modules", Modules: []string{"virtio"}}, "modules: lstat /no/modules: no such file or directory"},
		{"empty modules directory", Spec{ModulesDir: dir, Modules: []string{"virtio"}}, "is it a lib/modules/VERSION directory?"},
		{"dot-dot", file(File{Path: "/a/../b"}), `"/a/../b": path contains ".."`},
		{"NUL", file(File{Path: "/a\x00b"}), `"/a\x00b": path contains a NUL byte`},
		{"trailing slash", file(File{Path: "/a/"}), `"/a/": path ends with a slash`},
		{"double slash", file(File{Path: "/a//b"}), "shortest form"},
		{"no path", file(File{}), "empty path"},
		{"trailer", file(File{Path: "/TRAILER!!!"}), "would end the archive"},
		{"trailer in tree", Spec{Trees: []Tree{{HostDir: trailer}}}, "would end the archive"},
		{"twice", Spec{Files: []File{{Path: "/a"}, {Path: "a"}}}, "/a comes twice: from the spec and from the spec"},
		{"two inits", Spec{Agent: writeScript(t), Files: []File{{Path: "/init"}}}, "/init comes twice: from "},
		{"below a file", Spec{Files: []File{{Path: "/a"}, {Path: "/a/b"}}}, "/a/b (the spec) cannot lie below /a (the spec), which is not a directory"},
		{"above a file", Spec{Files: []File{{Path: "/a/b"}, {Path: "/a"}}}, "/a comes twice: from the parent of /a/b and from the spec"},
		{"missing source", file(File{Path: "/a", Source: "/no/source"}), `"/a": stat /no/source: no such file or directory`},
		{"source is a directory", file(File{Path: "/a", Source: dir}), "is not a regular file"},
		{"source and content", file(File{Path: "/a", Source: text, Content: []byte("x")}), "both a source and content"},
		{"link without target", file(File{Path: "/a", Mode: fs.ModeSymlink}), "without a target"},
		{"directory with content", file(File{Path: "/a", Mode: fs.ModeDir, Content: []byte("x")}), "has content but"},
		{"setuid in octal", file(File{Path: "/a", Mode: 0o4755}), "use fs.ModeSetuid"},
		{"irregular", file(File{Path: "/a", Mode: fs.ModeIrregular}), "no type that an archive can hold"},
		{"missing tree", Spec{Trees: []Tree{{HostDir: "/no/tree"}}}, "tree /no/tree: stat /no/tree: no such file or directory"},
		{"tree is a file", Spec{Trees: []Tree{{HostDir: text}}}, "is not a directory"},
		{"tree into dot-dot", Spec{Trees: []Tree{{HostDir: dir, GuestDir: "../x"}}}, `path contains ".."`},
		{"compression", Spec{Compression: 99}, "unknown compression Compression(99)"},
	}
	for _, tt := range tests {
		err := Build(io.Discard, tt.spec)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Build() = %v; want %q in it", tt.name, err, tt.want)
			continue
		}
		if !strings.HasPrefix(err.Error(), "cannot build initramfs: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q; want one line that begins with what failed", tt.name, err)
		}
	}
}

func writeScript(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	writeFile(t, path, "#!/bin/sh\n")
	return path
}

// TestTreeIsMergedUsr adds a tree whose /lib is a link, as today's distributions
// have it, and modules with it.
func TestTreeIsMergedUsr(t *testing.T) {
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "usr", "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("usr/lib", filepath.Join(tree, "lib")); err != nil {
		t.Fatal(err)
	}
	modules := fakeModules(t, map[string]string{"a.ko": "depends=\x00vermagic=1 x"})
	err := Build(io.Discard, Spec{ModulesDir: modules, Modules: []string{"a"}, Trees: []Tree{{HostDir: tree}}})
	if err != nil {
		t.Errorf("Build() = %v; want nil", err)
	}
}

func TestSourceThatChanges(t *testing.T) {
	for _, change := range []int64{-1, 1} {
		path := filepath.Join(t.TempDir(), "f")
		writeFile(t, path, "1234")
		l, err := layoutOf(Spec{Files: []File{{Path: "/f", Source: path}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 4+change); err != nil {
			t.Fatal(err)
		}
		if err := l.write(io.Discard); err == nil || !strings.Contains(err.Error(), "while it was read") {
			t.Errorf("change of %d: write() = %v; want an error that says so", change, err)
		}
	}
}

// TestBuildFile leaves the old file as it was when it fails, and no other.
func TestBuildFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "initrd")
	writeFile(t, path, "old")
	if err := BuildFile(path, Spec{Agent: "/no/agent"}); err == nil {
		t.Error("BuildFile() = nil; want an error")
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("after a failure the file holds %q; want %q", got, "old")
	}
	if err := BuildFile(path, Spec{Compression: None}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o644 || st.Size() < 1000 {
		t.Errorf("Stat() = %v, %v; want a file of mode 0644", st, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v; want the file alone", left)
	}
}
