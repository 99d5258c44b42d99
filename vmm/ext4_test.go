//go:build linux

package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sampleTree is a small rootfs; owned by a stranger when we are root.
func sampleTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "bin"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "etc", "greeting"), "good morning\n")
	tool := filepath.Join(dir, "bin", "tool")
	writeFile(t, tool, "#!/bin/sh\n")
	if os.Geteuid() == 0 {
		if err := os.Chown(tool, 70000, 4242); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tool, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkImage lets e2fsck judge an image.
func checkImage(t *testing.T, f *os.File) {
	t.Helper()
	cmd := exec.Command("/sbin/e2fsck", "-fn", inheritedFile)
	cmd.ExtraFiles = []*os.File{f}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// TestDisk boots guests that mount an image of a tree.
func TestDisk(t *testing.T) {
	tests := []struct {
		name   string
		opts   Ext4Options
		ro     bool
		owner  string
		result string
	}{
		{"read-write", Ext4Options{}, false, "70000:4242", "write done"},
		{"read-only squashed", Ext4Options{SquashOwners: true}, true, "0:0", "write Read-only file system"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				tt.owner = "0:0"
			}
			image, err := TempExt4(t.Context(), sampleTree(t), &tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer image.Close()
			checkImage(t, image)
			var extra []string
			if tt.ro {
				extra = append(extra, "ro=1")
			}
			cfg := testConfig(t, "disk", extra...)
			cfg.Disks = []Disk{{File: image, ReadOnly: tt.ro, Serial: "root-1.0"}}
			vm := startVM(t, cfg)
			if err := vm.Wait(); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"guest: serial root-1.0", "guest: content good morning",
				"guest: tool mode 104755 owner " + tt.owner, "guest: " + tt.result,
			} {
				if !strings.Contains(vm.ConsoleTail(), want) {
					t.Errorf("the guest did not say %q:\n%s", want, vm.ConsoleTail())
				}
			}
		})
	}
}

// TestExt4Sizes makes images of trees of several shapes without any free space
// to hide a wrong estimate.
func TestExt4Sizes(t *testing.T) {
	shapes := map[string]func(dir string) error{
		"empty":       func(string) error { return nil },
		"small files": func(dir string) error { return manyFiles(dir, 5000, 10) },
		"long names":  func(dir string) error { return manyFiles(dir, 2000, 0, strings.Repeat("n", 240)) },
		"links": func(dir string) error {
			for i := range 500 {
				if err := os.Symlink(strings.Repeat("t", 200), filepath.Join(dir, fmt.Sprint(i))); err != nil {
					return err
				}
			}
			return nil
		},
		"one big file": func(dir string) error { return manyFiles(dir, 1, 150<<20) },
	}
	for name, fill := range shapes {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := fill(dir); err != nil {
				t.Fatal(err)
			}
			f, err := TempExt4(t.Context(), dir, &Ext4Options{FreeSpace: 1, SquashOwners: true})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			checkImage(t, f)
		})
	}
}

func manyFiles(dir string, n int, size int, suffix ...string) error {
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)+strings.Join(suffix, "")), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func TestExt4Errors(t *testing.T) {
	t.Run("no directory", func(t *testing.T) {
		_, err := TempExt4(t.Context(), "/no/such/rootfs", nil)
		wantError(t, err, "cannot make image of /no/such/rootfs: stat /no/such/rootfs: no such file or directory")
	})
	t.Run("a file", func(t *testing.T) {
		_, err := TempExt4(t.Context(), "/etc/passwd", nil)
		wantError(t, err, "cannot make image of /etc/passwd: it is not a directory")
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := TempExt4(ctx, sampleTree(t), nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("TempExt4() = %v; want %v", err, context.Canceled)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		small := t.TempDir()
		if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
			t.Skipf("cannot mount a small tmpfs (%v): run as root", err)
		}
		defer syscall.Unmount(small, syscall.MNT_DETACH)
		dir := t.TempDir()
		if err := manyFiles(dir, 1, 8<<20); err != nil {
			t.Fatal(err)
		}
		_, err := TempExt4(t.Context(), dir, &Ext4Options{TempDir: small})
		wantError(t, err, small+" is full")
		if left, _ := os.ReadDir(small); len(left) > 0 {
			t.Errorf("left behind: %v; want nothing", left)
		}
	})
}

// wantError wants one line that contains text.
func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v; want %q in it", err, text)
		return
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has several lines; want one", err)
	}
}
