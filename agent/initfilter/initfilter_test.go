//go:build linux && cgo && seccomp

package initfilter

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seccomp"
	"github.com/bellhop-vm/bellhop/hostclient"
)

const (
	initEnv     = "BELLHOP_TEST_INIT"
	threadCount = 4
)

func TestMain(m *testing.M) {
	if os.Getenv(initEnv) != "" {
		beInit()
		return
	}
	os.Exit(m.Run())
}

// beInit is a process with several threads, which gives up its user before it gets its filter.
func beInit() {
	Listen(3)
	if err := syscall.Setuid(1000); err != nil {
		fmt.Println(err)
	}
	var threads, locked sync.WaitGroup
	goOn, errs := make(chan struct{}), make(chan error, threadCount)
	locked.Add(threadCount)
	for range threadCount {
		threads.Go(func() {
			runtime.LockOSThread()
			locked.Done()
			<-goOn
			errs <- unix.Mkdir("/tmp", 0o700)
		})
	}
	locked.Wait()
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	close(goOn)
	threads.Wait()
	close(errs)
	for err := range errs {
		fmt.Println(err)
	}
}

// deny gives a filter that answers the calls with EDOM.
func deny(t *testing.T, calls ...string) seccomp.Filter {
	t.Helper()
	errno := uint(unix.EDOM)
	f, err := seccomp.Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: calls, Action: specs.ActErrno, ErrnoRet: &errno}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// start starts a process that is ready for Install, and gives the agent's end of its socket pair, and what makes it go on to its end and gives what it said.
func start(t *testing.T) (socket *os.File, finish func() string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("init cannot give up a user that is not root: run as root")
	}
	socket, remote, err := Sockets()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), initEnv+"=1")
	cmd.ExtraFiles = []*os.File{remote}
	stdin, inErr := cmd.StdinPipe()
	stdout, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start(), remote.Close()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("init says %q, %v; want ready", line, err)
	}
	return socket, func() string {
		out := new(strings.Builder)
		closed := stdin.Close()
		_, err := lines.WriteTo(out)
		if err := errors.Join(closed, err, cmd.Wait()); err != nil {
			t.Error(err)
		}
		return out.String()
	}
}

func TestInstall(t *testing.T) {
	socket, finish := start(t)
	if err := Install(socket, deny(t, "mkdir", "mkdirat")); err != nil {
		t.Fatalf("Install() = %v", err)
	}
	if out, want := finish(), strings.Repeat(unix.EDOM.Error()+"\n", threadCount); out != want {
		t.Errorf("mkdir in the threads = %q; want %q", out, want)
	}
}

func TestInstallErrors(t *testing.T) {
	socket, finish := start(t)
	if err := Install(socket, seccomp.Filter{Program: make([]byte, unix.SizeofSockFilter)}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Install of a program that does not return = %v; want EINVAL", err)
	}
	if out, want := finish(), strings.Repeat(unix.EEXIST.Error()+"\n", threadCount); out != want {
		t.Errorf("mkdir in the threads = %q; want %q, as without a filter", out, want)
	}
	if err := Install(socket, deny(t, "mkdir")); err == nil {
		t.Error("Install() in an init that is gone = nil; want an error")
	}
}

func TestSuits(t *testing.T) {
	onFutexWait := []specs.LinuxSeccompArg{{Index: 1, Value: 128, Op: specs.OpEqualTo}}
	onThreads := []specs.LinuxSeccompArg{{Index: 0, Value: unix.CLONE_THREAD, ValueTwo: unix.CLONE_THREAD, Op: specs.OpMaskedEqual}}
	for name, c := range map[string]struct {
		rule specs.LinuxSyscall
		want bool
	}{
		"a call of the program's":            {specs.LinuxSyscall{Names: []string{"mkdir"}}, true},
		"one of the runtime's too":           {specs.LinuxSyscall{Names: []string{"mkdir", "futex"}}, false},
		"one of the runtime's":               {specs.LinuxSyscall{Names: []string{"nanosleep"}}, false},
		"one with some arguments":            {specs.LinuxSyscall{Names: []string{"futex"}, Args: onFutexWait}, false},
		"threads":                            {specs.LinuxSyscall{Names: []string{"clone"}, Args: onThreads}, false},
		"threads by the newer call":          {specs.LinuxSyscall{Names: []string{"clone3"}}, false},
		"the newer call, as not being there": {specs.LinuxSyscall{Names: []string{"clone3"}, ErrnoRet: new(uint(unix.ENOSYS))}, true},
	} {
		c.rule.Action = specs.ActErrno
		f, err := seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{c.rule}})
		if err != nil {
			t.Fatal(err)
		}
		if got := Suits(f); got != c.want {
			t.Errorf("Suits(a filter against %s) = %v; want %v", name, got, c.want)
		}
	}
	for _, capabilities := range [][]string{nil, {"CAP_SYS_ADMIN"}} {
		f, err := seccomp.Compile(hostclient.DefaultSeccomp(capabilities))
		if err != nil {
			t.Fatal(err)
		}
		if !Suits(f) {
			t.Errorf("Suits(the default profile with %q) = false; want true: most containers have it", capabilities)
		}
	}
}
