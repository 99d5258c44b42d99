package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// useDisks mounts two disks in every way that makes unmounting them harder, leaves what is written in memory, and exits.
func useDisks() int {
	for _, step := range []func() error{mountDisks, writeFiles, leaveUser} {
		if err := step(); err != nil {
			fmt.Println("FAIL disks:", err)
			return 1
		}
	}
	return 0
}

// mountDisks mounts the second disk within a tmpfs within the first, and an overlay that writes to it.
func mountDisks() error {
	for _, m := range []struct{ source, target, fstype, data string }{
		{"dev", "/dev", "devtmpfs", ""},
		{"/dev/vda", "/first disk", "ext4", ""},
		{"tmp", "/first disk/tmp", "tmpfs", ""},
		{"/dev/vdb", "/first disk/tmp/second", "ext4", ""},
		{"overlay", "/merged", "overlay", "lowerdir=/first disk,upperdir=/first disk/tmp/second/upper,workdir=/first disk/tmp/second/work"},
	} {
		if err := waitFor(m.source); err != nil {
			return err
		}
		if m.fstype == "overlay" {
			if err := errors.Join(os.Mkdir("/first disk/tmp/second/upper", 0o755), os.Mkdir("/first disk/tmp/second/work", 0o755)); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := mountSoon(m.source, m.target, m.fstype, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// waitFor waits for a device whose module is being loaded.
func waitFor(device string) error {
	if !filepath.IsAbs(device) {
		return nil
	}
	var err error
	for range 1000 {
		if _, err = os.Stat(device); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// mountSoon waits for a file system whose module is being loaded.
func mountSoon(source, target, fstype, data string) error {
	var err error
	for range 1000 {
		if err = unix.Mount(source, target, fstype, 0, data); !errors.Is(err, unix.ENODEV) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

func writeFiles() error {
	return errors.Join(
		os.WriteFile("/first disk/written", bytes.Repeat([]byte("first"), 1<<18), 0o644),
		os.WriteFile("/merged/written", []byte("through the overlay"), 0o644),
	)
}

// leaveUser leaves a process that nothing but SIGKILL ends, with a file of a disk open for writing, in a mount namespace of its own.
func leaveUser() error {
	f, err := os.Create("/first disk/open")
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(childPath, "stubborn")
	cmd.Dir, cmd.Stdout = "/first disk/tmp/second", f
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		return err
	}
	for st := new(unix.Stat_t); st.Size == 0; { // until it says that it is deaf
		if err := unix.Fstat(int(f.Fd()), st); err != nil {
			return err
		}
	}
	return nil
}
