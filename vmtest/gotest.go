package vmtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// GoTest builds the tests of a package, runs them as root in the guest's own root (outside every container), and fails the test if they fail. Their
// environment has BELLHOP_IN_GUEST=1. The machine needs Busybox. args are flags of the test binary, such as -test.run.
func (vm *VM) GoTest(t testing.TB, pkg string, args ...string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "test")
	if err := BuildStatic(t.Context(), binary, "test", "-c", pkg); err != nil {
		t.Fatal(err)
	}
	const guestPath = "/run/bellhop-test"
	vm.Upload(t, binary, guestPath)

	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := vm.Client.Command(ctx, guestPath, append([]string{"-test.v"}, args...)...)
	cmd.Env = []string{"BELLHOP_IN_GUEST=1", "PATH=" + Rootfs + "/bin", "HOME=/root", "TMPDIR=/tmp"}
	cmd.Dir = "/tmp"
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &out
	err := cmd.Run()
	t.Logf("tests of %s in the guest:\n%s", pkg, out.Bytes())
	if err != nil {
		t.Errorf("tests of %s in the guest: %v", pkg, err)
	}
}

// BuildStatic builds a program that runs in any guest: go build PACKAGE, or with "test", "-c" the tests of a package.
func BuildStatic(ctx context.Context, binary string, command ...string) error {
	last := len(command) - 1
	args := append(append([]string(nil), command[:last]...), "-o", binary, "-tags", "netgo osusergo runc_nocriu seccomp",
		"-ldflags", `-s -w -linkmode external -extldflags "-static -no-pie"`, command[last])
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", command[last], err, out)
	}
	return nil
}

// Upload copies a file of the host into the guest's root, with mode 0755. The machine needs Busybox.
func (vm *VM) Upload(t testing.TB, hostPath, guestPath string) {
	t.Helper()
	f, err := os.Open(hostPath)
	if err != nil {
		t.Fatalf("vmtest: %v", err)
	}
	defer f.Close()
	shell := Rootfs + "/bin/busybox"
	cmd := vm.Client.Command(t.Context(), shell, "sh", "-c", `"$1" cat >"$2" && "$1" chmod 755 "$2"`, "sh", shell, guestPath)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("vmtest: cannot copy %s into the guest: %v\n%s", hostPath, err, out)
	}
}
