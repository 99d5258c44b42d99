package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user without any privilege.
const nobody = 65534

// nobodysBellhop makes commands that run as nobody, on copies of all that they need: neither go test's directories nor the checkout's need be open to others.
type nobodysBellhop struct{ dir string }

func newNobodysBellhop(t *testing.T) nobodysBellhop {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("to become another user this test must be run as root")
	}
	dir, err := os.MkdirTemp("", "bellhop-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, cp := range [][]string{
		{os.Args[0], filepath.Join(dir, "bellhop")},
		{filepath.Join(build, "bellhopd"), dir},
		{filepath.Join(build, "kernel"), dir},
		{rootfs(t), filepath.Join(dir, "rootfs")},
	} {
		if out, err := exec.Command("cp", append([]string{"-R", "--preserve=links,mode"}, cp...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, fix := range [][]string{{"chmod", "-R", "a+rX", dir}, {"chown", "65534", filepath.Join(dir, "tmp")}} {
		if out, err := exec.Command(fix[0], fix[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return nobodysBellhop{dir}
}

// run gives what the command prints on both outputs, and its exit code.
func (n nobodysBellhop) run(t *testing.T, argv ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(n.dir, "bellhop"), append([]string{"run", "--rootfs", n.rootfs(), "--"}, argv...)...)
	cmd.Dir = n.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), asBellhop + "=1", "TMPDIR=" + filepath.Join(n.dir, "tmp")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	code = exitCode(t, cmd.Run())
	return out.String(), errs.String(), code
}

func (n nobodysBellhop) rootfs() string { return filepath.Join(n.dir, "rootfs") }

// A machine, its vsock and its containers need nothing of the host that anybody does not have.
func TestRunUnprivileged(t *testing.T) {
	n := newNobodysBellhop(t)
	if out, errs, code := n.run(t, "sh", "-c", "id -u; stat -c %u:%g /etc/plain"); code != 0 || out != "0\n0:0\n" {
		t.Errorf("as nobody: code %d, output %q, errors %q; want root in the container, with root's files", code, out, errs)
	}
	if err := os.Chmod(filepath.Join(n.rootfs(), "etc/plain"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, code := n.run(t, "true")
	if code != exitFailure || !strings.Contains(errs, "etc/plain") || !strings.Contains(strings.ToLower(errs), "permission denied") || strings.Count(errs, "\n") != 1 {
		t.Errorf("with a file that nobody may not read: code %d, errors %q; want %d and one line that names the file", code, errs, exitFailure)
	}
	if left, err := os.ReadDir(filepath.Join(n.dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v; want nothing", left, err)
	}
}

// A disk that is full is one line that says which, and how to choose another.
func TestRunFullDisk(t *testing.T) {
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("cannot mount a small file system (%v): run as root", err)
	}
	t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
	cmd := bellhop(t, "run", "--rootfs", rootfs(t), "--", "true")
	cmd.Env = append(cmd.Env, "TMPDIR="+small)
	out, err := cmd.CombinedOutput()
	if code := exitCode(t, err); code != exitFailure {
		t.Errorf("exits with %d; want %d", code, exitFailure)
	}
	if s := string(out); !strings.Contains(s, small) || !strings.Contains(s, "TMPDIR") || strings.Count(s, "\n") != 1 {
		t.Errorf("prints %q; want one line that names %s and TMPDIR", s, small)
	}
	if left, err := os.ReadDir(small); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v; want nothing", left, err)
	}
}
