//go:build linux && cgo

package pid1_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bellhop-vm/bellhop/vmm"
)

// TestDisksAreClean has a guest use disks until its very end, with a process that still writes to them. They are clean afterwards and have everything that was written.
func TestDisksAreClean(t *testing.T) {
	plain, journalled := ext4(t, "-O", "^has_journal"), ext4(t, "-O", "has_journal")
	init, child := buildGuest(t)
	console, err := runGuest(t, init, child, []string{"pid1test=disks"}, vmm.Disk{Path: plain}, vmm.Disk{Path: journalled})
	if err != nil || !strings.Contains(console, "the agent exited with status 0") ||
		strings.Contains(console, "stays mounted") || strings.Contains(console, "did not become idle") {
		t.Fatalf("the VM ended with %v; the console says:\n%s", err, console)
	}
	for _, disk := range []string{plain, journalled} {
		checkClean(t, disk)
	}
	if got := tool(t, "debugfs", "-R", "cat /written", plain); got != strings.Repeat("first", 1<<18) {
		t.Errorf("the first disk's file has %d bytes; want those that were written", len(got))
	}
	if got, want := tool(t, "debugfs", "-R", "cat /upper/written", journalled), "through the overlay"; got != want {
		t.Errorf("the second disk's file = %q; want %q", got, want)
	}
}

// ext4 makes an empty file system of 64 MiB.
func ext4(t *testing.T, options ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	tool(t, "mke2fs", append(append([]string{"-q", "-t", "ext4"}, options...), path, "64M")...)
	return path
}

// checkClean looks at the superblock, ext4(5): the kernel clears s_state's lowest bit, or with a journal sets the feature RECOVER, as long as the file system is in use.
func checkClean(t *testing.T, path string) {
	t.Helper()
	const superblock, state, incompat, size = 1024, 0x3a, 0x60, 0x64
	const valid, recover = 1, 4
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [size]byte
	if _, err := f.ReadAt(b[:], superblock); err != nil {
		t.Fatal(err)
	}
	if s, i := binary.LittleEndian.Uint16(b[state:]), binary.LittleEndian.Uint32(b[incompat:]); s != valid || i&recover != 0 {
		t.Errorf("state of %s = %#x, features %#x; want it clean, without a journal to replay", path, s, i)
	}
	tool(t, "e2fsck", "-f", "-n", path)
}

// tool runs a program of e2fsprogs and gives its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}
