package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// asBellhop makes the test binary behave as the command itself.
const asBellhop = "BELLHOP_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asBellhop) != "" {
		main()
	}
	os.Exit(m.Run())
}

// build is where `make build` puts agent and kernel.
const build = "../../build"

// bellhop gives a command that is this program with args. Its temporary files are in a directory that must be empty at the test's end.
func bellhop(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	tmp := t.TempDir()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asBellhop+"=1", "TMPDIR="+tmp,
		"BELLHOP_KERNEL="+filepath.Join(build, "kernel/vmlinuz"), "BELLHOP_AGENT="+filepath.Join(build, "bellhopd"))
	t.Cleanup(func() {
		left, err := os.ReadDir(tmp)
		if err != nil || len(left) > 0 {
			t.Errorf("bellhop %q left files behind: %v, %v", args, left, err)
		}
	})
	return cmd
}

// rootfs makes a root file system of busybox.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v (make deps installs it)", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "cat", "true", "uname", "sleep", "kill", "head", "stty", "id", "env", "pwd", "echo", "touch", "stat"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/plain"), []byte("not a program\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestRun(t *testing.T) {
	root := rootfs(t)
	if err := os.Rename(compile(t, "int main(void) { *(volatile int *)0 = 1; }"), filepath.Join(root, "bin/crash")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		flags  []string
		argv   []string
		stdin  string
		code   int
		stdout string
		stderr string // contained in it
	}{
		{name: "output", argv: []string{"sh", "-c", "echo out; echo err >&2"}, stdout: "out\n", stderr: "err\n"},
		{name: "code, read-only", flags: []string{"--read-only"}, argv: []string{"sh", "-c", "touch /x 2>/dev/null || exit 42"}, code: 42},
		{name: "signal", argv: []string{"/bin/crash"}, code: 139},
		{name: "signal below an init", flags: []string{"--init"}, argv: []string{"sh", "-c", "[ $$ != 1 ] && echo child; kill -TERM $$"}, code: 143, stdout: "child\n"},
		{name: "not found", argv: []string{"/bin/nope"}, code: 127, stderr: "/bin/nope"},
		{name: "not found in PATH", argv: []string{"nope"}, code: 127, stderr: "nope"},
		{name: "not executable", argv: []string{"/etc/plain"}, code: 126, stderr: "/etc/plain"},
		{name: "stdin", flags: []string{"-i"}, argv: []string{"cat"}, stdin: "to and fro", stdout: "to and fro"},
		{name: "stdin is closed without -i", argv: []string{"cat"}, stdin: "nobody reads this"},
		{name: "user, cwd, env", flags: []string{"-u", "7:8", "-w", "/tmp", "-e", "X=y"}, argv: []string{"sh", "-c", "id -u; id -g; pwd; echo $X"}, stdout: "7\n8\n/tmp\ny\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append(append([]string{"run", "--rootfs", root}, test.flags...), "--")
			cmd := bellhop(t, append(args, test.argv...)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(test.stdin), &stdout, &stderr
			if code := exitCode(t, cmd.Run()); code != test.code {
				t.Errorf("bellhop %q exits with %d; want %d", args, code, test.code)
			}
			if stdout.String() != test.stdout {
				t.Errorf("stdout = %q; want %q", stdout.String(), test.stdout)
			}
			if !strings.Contains(stderr.String(), test.stderr) || test.stderr == "" && stderr.Len() > 0 {
				t.Errorf("stderr = %q; want %q in it", stderr.String(), test.stderr)
			}
		})
	}
}

// What goes in comes out again, to the last byte.
func TestRunBytes(t *testing.T) {
	in := make([]byte, 16<<20+1)
	rand.Read(in)
	cmd := bellhop(t, "run", "--rootfs", rootfs(t), "-i", "--", "cat")
	cmd.Stdin = bytes.NewReader(in)
	out := sha256.New()
	cmd.Stdout = out
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	want := sha256.Sum256(in)
	if got := out.Sum(nil); !bytes.Equal(got, want[:]) {
		t.Errorf("sum of what came back = %s; want %s", hex.EncodeToString(got), hex.EncodeToString(want[:]))
	}
}

// The guest works on a copy.
func TestRunLeavesTheRootfsAlone(t *testing.T) {
	root := rootfs(t)
	if out, err := bellhop(t, "run", "--rootfs", root, "--", "touch", "/made-in-the-guest").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(root, "made-in-the-guest")); err == nil {
		t.Error("a file that the guest made is in the host's directory")
	}
}

func TestRunTimeline(t *testing.T) {
	cmd := bellhop(t, "run", "--timeline", "--rootfs", rootfs(t), "--", "echo", "hello")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	rest := stderr.String()
	for _, want := range []string{"QEMU started", "kernel started", "agent main", "hello", "created", "started", "first byte", "exited"} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("the timeline lacks %q, or has it too early:\n%s", want, stderr.String())
		}
		rest = after
	}
}

// An interrupt goes to the process; it is not the end of Bellhop.
func TestRunForwardsSignals(t *testing.T) {
	cmd := bellhop(t, "run", "--rootfs", rootfs(t), "--", "sh", "-c", "trap 'echo got it; exit 3' INT; echo ready; while true; do sleep 0.1; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, buf); err != nil {
		t.Fatal(err, cmd.Wait())
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(out)
	if code := exitCode(t, cmd.Wait()); code != 3 || string(rest) != "got it\n" {
		t.Errorf("after SIGINT: code %d, output %q; want 3 and %q", code, rest, "got it\n")
	}
}

// Ctrl-C while the machine boots ends it and leaves nothing (bellhop checks the files).
func TestRunInterruptedAtBoot(t *testing.T) {
	cmd := bellhop(t, "run", "-v", "--rootfs", rootfs(t), "--", "true")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stderr, make([]byte, 1)); err != nil { // the machine is starting
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(stderr)
	if code := exitCode(t, cmd.Wait()); code != 128+int(syscall.SIGINT) {
		t.Errorf("exits with %d; want 130\n%s", code, rest)
	}
}

// With -it the process has a terminal: the user's size, its input echoed, ^D its end.
func TestRunTerminal(t *testing.T) {
	cmd := bellhop(t, "run", "--rootfs", rootfs(t), "-it", "--", "sh", "-c", "stty size; cat; echo over")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := master.SetDeadline(time.Now().Add(time.Minute)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		t.Fatal(err)
	}
	var seen strings.Builder
	expect := func(want string) {
		t.Helper()
		buf := make([]byte, 1024)
		for !strings.Contains(seen.String(), want) {
			n, err := master.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				t.Fatalf("waiting for %q: %v; seen %q", want, err, seen.String())
			}
		}
	}
	expect("33 99")
	io.WriteString(master, "typed\r")
	expect("typed\r\ntyped\r\n") // the echo, then cat
	io.WriteString(master, "\x04")
	expect("over")
	if code := exitCode(t, cmd.Wait()); code != 0 {
		t.Errorf("exits with %d; want 0", code)
	}
}

// Whatever is missing is one line that says so.
func TestRunMissing(t *testing.T) {
	root := rootfs(t)
	arm := filepath.Join(t.TempDir(), "Image")
	image := make([]byte, 4096) // an arm64 Image: the magic at 0x38 of its header
	copy(image[0x38:], "ARM\x64")
	if err := os.WriteFile(arm, image, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		env   string
		flags []string
		want  string
	}{
		{"QEMU", "BELLHOP_QEMU=/nonexistent/qemu", nil, "qemu"},
		{"kernel", "BELLHOP_KERNEL=/nonexistent/vmlinuz", nil, "/nonexistent/vmlinuz"},
		{"kernel of another architecture", "BELLHOP_KERNEL=" + arm, nil, "arm64"},
		{"agent", "BELLHOP_AGENT=/nonexistent/bellhopd", nil, "/nonexistent/bellhopd"},
		{"rootfs", "", []string{"--rootfs", "/nonexistent/rootfs"}, "/nonexistent/rootfs"},
		{"rootfs is a file", "", []string{"--rootfs", "/bin/busybox"}, "/bin/busybox"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"run", "--rootfs", root}, test.flags...)
			cmd := bellhop(t, append(args, "--", "true")...)
			if test.env != "" {
				cmd.Env = append(cmd.Env, test.env)
			}
			out, err := cmd.CombinedOutput()
			if code := exitCode(t, err); code != exitFailure {
				t.Errorf("exits with %d; want %d", code, exitFailure)
			}
			if s := string(out); !strings.Contains(s, test.want) || strings.Count(s, "\n") != 1 {
				t.Errorf("prints %q; want one line with %q", s, test.want)
			}
		})
	}
}

// A machine that never answers is given up, with its console.
func TestRunHangingBoot(t *testing.T) {
	silent := compile(t, "int main(void) { for (;;) pause(); }")
	out, err := bellhop(t, "run", "--rootfs", rootfs(t), "--agent", silent, "--boot-timeout", "8s", "--", "true").CombinedOutput()
	if code := exitCode(t, err); code != exitFailure {
		t.Errorf("exits with %d; want %d", code, exitFailure)
	}
	if !strings.Contains(string(out), "8s") || !strings.Contains(string(out), "console") {
		t.Errorf("prints %q; want the bound and the console", out)
	}
}

// An agent that ends at once is a machine that dies at boot.
func TestRunDyingBoot(t *testing.T) {
	dead := compile(t, "int main(void) { return 7; }")
	out, err := bellhop(t, "run", "--rootfs", rootfs(t), "--agent", dead, "--", "true").CombinedOutput()
	if code := exitCode(t, err); code != exitFailure {
		t.Errorf("exits with %d; want %d", code, exitFailure)
	}
	if !strings.Contains(string(out), "Kernel panic") {
		t.Errorf("prints %q; want the kernel's panic", out)
	}
}

// compile makes a static program of C source.
func compile(t *testing.T, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("gcc", "-static", "-include", "unistd.h", "-x", "c", "-o", path, "-")
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
