package vsockdev_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// commandPort is where the program of testdata/guest.c serves commands.
const commandPort = 1000

// guest is a VM that runs the program of testdata/guest.c.
type guest struct {
	vm *vmm.VM
	t  testing.TB
}

// startGuest boots a VM that lives as long as the test. A failing test prints the console's end and a command line.
func startGuest(t testing.TB, cfg *vsockdev.Config, extraArgs ...string) *guest {
	t.Helper()
	parts, err := (initramfs.Guest{Agent: buildGuest(t)}).Locate(filepath.Join("..", "..", "build"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no guest kernel; run make deps: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	spec := parts.Spec()
	spec.Compression = initramfs.None
	if err := initramfs.BuildFile(initrd, spec); err != nil {
		t.Fatal(err)
	}
	vm, err := vmm.Start(context.Background(), vmm.Config{
		Kernel: parts.Kernel, Initrd: initrd, DeviceConfig: cfg, ExtraArgs: extraArgs,
	})
	if err != nil {
		t.Fatalf("%v (is QEMU there? run make deps)", err)
	}
	g := &guest{vm: vm, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s\ncommand line:\n%s\ndevice: %+v", vm.ConsoleTail(), vm.CommandLine(), vm.Device().Stats())
		}
		vm.Close()
	})
	g.waitServing()
	return g
}

// buildGuest compiles the guest's program.
func buildGuest(t testing.TB) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest")
	cmd := exec.Command("gcc", "-static", "-O2", "-Wall", "-Werror", "-o", out, filepath.Join("testdata", "guest.c"))
	if msg, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		t.Skip("no gcc; run apt-get install gcc libc6-dev")
	} else if err != nil {
		t.Fatalf("cannot compile the guest's program: %v\n%s", err, msg)
	}
	return out
}

// waitServing waits until the guest accepts commands.
func (g *guest) waitServing() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		c, err := g.vm.Dial(ctx, commandPort)
		if err == nil {
			c.Close()
			return
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			g.t.Fatalf("guest does not serve: %v\n%s", err, g.vm.ConsoleTail())
		}
	}
}

// command starts a command in the guest and returns its connection, which ends with the test.
func (g *guest) command(format string, args ...any) *vsockdev.Conn {
	g.t.Helper()
	c, err := g.tryCommand(format, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

func (g *guest) tryCommand(format string, args ...any) (*vsockdev.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := g.vm.Dial(ctx, commandPort)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	line := make([]byte, 64)
	copy(line, fmt.Sprintf(format, args...))
	if _, err := c.Write(line); err != nil {
		c.Close()
		return nil, err
	}
	return c.(*vsockdev.Conn), nil
}

// answer reads the two numbers that a command answers with.
func (g *guest) answer(c net.Conn) (a, b int64) {
	g.t.Helper()
	var v [16]byte
	if _, err := io.ReadFull(c, v[:]); err != nil {
		g.t.Fatalf("reading the guest's answer: %v", err)
	}
	return int64(binary.LittleEndian.Uint64(v[:])), int64(binary.LittleEndian.Uint64(v[8:]))
}

// pattern returns the bytes that the guest's source sends.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16*7)
	}
	return b
}

// sum is what the guest's sink computes.
func sum(b []byte) (s uint64) {
	for _, x := range b {
		s = s*31 + uint64(x)
	}
	return s
}
