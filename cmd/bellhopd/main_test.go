//go:build linux && cgo

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent"
	"github.com/bellhop-vm/bellhop/agent/boot"
	"github.com/bellhop-vm/bellhop/agent/pid1"
	"github.com/bellhop-vm/bellhop/protocol"
)

// asAgent in the environment makes the test binary be bellhopd.
const asAgent = "BELLHOPD_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestParseFlags(t *testing.T) {
	defaults := func() *options { return &options{Config: boot.DefaultConfig(), listenOn: "vsock", cgroups: true} }
	for _, tt := range []struct {
		args []string
		want func(*options) // changes the defaults
		err  string
	}{
		{args: nil, want: func(*options) {}},
		{args: []string{"--version"}, want: func(o *options) { o.version = true }},
		{args: []string{"--port", "7", "-allow-cid=2,3"}, want: func(o *options) { o.Port, o.AllowCIDs = 7, []uint32{2, 3} }},
		{args: []string{"--log-level=debug", "--cgroups=false"}, want: func(o *options) { o.LogLevel, o.cgroups = slog.LevelDebug, false }},
		{args: []string{"--listen", "unix:/run/x"}, want: func(o *options) { o.listenOn = "unix:/run/x" }},
		{args: []string{"--port", "0"}, err: "a port is a number"},
		{args: []string{"--allow-cid", "host"}, err: "CIDs are numbers"},
		{args: []string{"--listen", "unix:"}, err: "neither vsock nor unix:PATH"},
		{args: []string{"--listen", "tcp:1"}, err: "neither vsock nor unix:PATH"},
		{args: []string{"--nonsense"}, err: "-nonsense"},
		{args: []string{"init"}, err: `unexpected argument "init"`},
	} {
		got, err := parseFlags(tt.args, io.Discard)
		if tt.err != "" {
			if !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("parseFlags(%q): error = %v; want a usage error with %q", tt.args, err, tt.err)
			}
			continue
		}
		want := defaults()
		tt.want(want)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("parseFlags(%q) = %+v, %v; want %+v", tt.args, got, err, want)
		}
	}
}

func TestParseFlagsHelp(t *testing.T) {
	var out bytes.Buffer
	if _, err := parseFlags([]string{"--help"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("parseFlags(--help): error = %v; want %v", err, flag.ErrHelp)
	}
	for _, want := range []string{"usage: bellhopd", "-port port", "-listen PATH"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("--help does not say %q; it says:\n%s", want, out.String())
		}
	}
}

func TestAllowCID(t *testing.T) {
	for _, tt := range []struct {
		cids []uint32
		peer uint32
		ok   bool
	}{
		{[]uint32{2}, 2, true},
		{[]uint32{2}, 1, false},
		{[]uint32{2, 1}, 1, true},
		{nil, 0, false},
	} {
		if err := allowCID(tt.cids, &vsock.Addr{ContextID: tt.peer, Port: 5}); (err == nil) != tt.ok {
			t.Errorf("allowCID(%d, CID %d) = %v; want allowed: %v", tt.cids, tt.peer, err, tt.ok)
		}
	}
}

func TestExitStatus(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		err            error
		guest, service int
	}{
		{nil, 0, 0},
		{flag.ErrHelp, 0, 0},
		{agent.ErrPowerOff, 0, 0},
		{agent.ErrReboot, pid1.ExitReboot, 0},
		{errors.New("x"), 1, 1},
		{usageError{errors.New("x")}, 2, 2},
	} {
		if got := exitStatus(tt.err, true, log); got != tt.guest {
			t.Errorf("exitStatus(%v) in a guest = %d; want %d", tt.err, got, tt.guest)
		}
		if got := exitStatus(tt.err, false, log); got != tt.service {
			t.Errorf("exitStatus(%v) of a service = %d; want %d", tt.err, got, tt.service)
		}
	}
}

// command is this binary as bellhopd.
func command(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asAgent+"=1")
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"--version"}, 0, "bellhopd " + version + "\n", ""},
		{[]string{"--help"}, 0, usage, ""},
		{[]string{"--nonsense"}, 2, "", "bellhopd: flag provided but not defined: -nonsense (bellhopd --help lists the flags)\n"},
		{[]string{"init"}, 2, "", "bellhopd: unexpected argument \"init\" (bellhopd --help lists the flags)\n"},
	} {
		cmd, stderr := command(t, tt.args...)
		stdout, err := cmd.Output()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.HasPrefix(string(stdout), tt.stdout) || stderr.String() != tt.stderr {
			t.Errorf("bellhopd %q: exit status %d, stdout %q, stderr %q; want %d, %q…, %q", tt.args, code, stdout, stderr, tt.code, tt.stdout, tt.stderr)
		}
	}
}

// TestServiceOnUnixSocket runs the agent on this machine, without vsock and
// without touching the machine's cgroups.
func TestServiceOnUnixSocket(t *testing.T) {
	if limit := raisedFileLimit(); limit != nil {
		t.Skipf("the agent needs CAP_SYS_RESOURCE (%v): run the test as root outside of containers; TestGuest does so in a VM", limit)
	}
	path := filepath.Join(t.TempDir(), "agent")
	leaveStaleSocket(t, path)
	cmd, stderr := command(t, "--listen", "unix:"+path, "--cgroups=false")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the agent says:\n%s", stderr)
		}
	})

	conn := dialUnix(t, path)
	hello, err := protocol.ReadHello(conn)
	if err != nil {
		t.Fatal(err)
	}
	if hello.Software != "bellhopd "+version || len(hello.Instance) != 16 {
		t.Errorf("ReadHello = %v; want that of bellhopd %s", hello, version)
	}
	if st, err := os.Stat(path); err != nil {
		t.Error(err)
	} else if st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the socket = %v; want 0700", st.Mode())
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid)); err != nil || !strings.HasPrefix(exe, "/memfd:") {
		t.Errorf("the agent runs %q, %v; want a sealed memfd", exe, err)
	}

	second, secondErr := command(t, "--listen", "unix:"+path, "--cgroups=false")
	if err := second.Run(); err == nil || !strings.Contains(secondErr.String(), "another process listens there") {
		t.Errorf("a second agent on the same socket: %v, %q; want that it says so", err, secondErr)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v; want exit status 0", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Lstat of the socket after the end: %v; want %v", err, os.ErrNotExist)
	}
}

func TestListenUnixKeepsOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("listenUnix over a file: %v; want that it is not a socket", err)
	}
	if b, err := os.ReadFile(path); string(b) != "x" {
		t.Errorf("the file is now %q, %v; want it untouched", b, err)
	}
}

// raisedFileLimit is nil if this process may raise its limits.
func raisedFileLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Max = max(limit.Max, 1<<20)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// leaveStaleSocket makes a socket as a killed agent leaves it.
func leaveStaleSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// dialUnix tries until somebody listens on path.
func dialUnix(t *testing.T, path string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
