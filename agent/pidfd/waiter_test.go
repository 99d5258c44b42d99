//go:build linux

package pidfd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const longTime = 60 * time.Second

func newWaiter(t *testing.T) *Waiter {
	t.Helper()
	w, err := NewWaiter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return w
}

// start starts a shell command, whose process nobody waits for yet.
func start(t *testing.T, command string) (int, *os.File) {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", command}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fd.Close() })
	return pid, fd
}

func add(t *testing.T, w *Waiter, pid int, fd *os.File) <-chan Status {
	t.Helper()
	exited := make(chan Status, 1)
	if err := w.Add(pid, fd, func(s Status) { exited <- s }); err != nil {
		t.Fatal(err)
	}
	return exited
}

func receive(t *testing.T, exited <-chan Status) Status {
	t.Helper()
	select {
	case s := <-exited:
		return s
	case <-time.After(longTime):
		t.Fatal("no status")
		return Status{}
	}
}

func TestStatus(t *testing.T) {
	w := newWaiter(t)
	for _, c := range []struct {
		command string
		code    int
		signal  unix.Signal
		text    string
	}{
		{"exit 0", 0, 0, "exit status 0"},
		{"exit 42", 42, 0, "exit status 42"},
		{"exit 255", 255, 0, "exit status 255"},
		{"kill -KILL $$", -1, unix.SIGKILL, "signal: killed"},
		{"kill -TERM $$", -1, unix.SIGTERM, "signal: terminated"},
		{"ulimit -c 0; kill -SEGV $$", -1, unix.SIGSEGV, "signal: segmentation fault"},
	} {
		pid, fd := start(t, c.command)
		s := receive(t, add(t, w, pid, fd))
		if s.PID != pid || s.Code != c.code || s.Signal != c.signal || s.Core || s.Err != nil || s.String() != c.text {
			t.Errorf("%s: status = %+v (%v); want pid %d, code %d, signal %d, %q", c.command, s, s, pid, c.code, c.signal, c.text)
		}
		if err := Signal(fd, 0); err != unix.ESRCH {
			t.Errorf("%s: Signal after the status = %v; want ESRCH", c.command, err)
		}
	}
}

func TestAlreadyEnded(t *testing.T) {
	w := newWaiter(t)
	pid, fd := start(t, "exit 3")
	poll := []unix.PollFd{{Fd: int32(fd.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); err != unix.EINTR {
			break
		}
	}
	if s := receive(t, add(t, w, pid, fd)); s.Code != 3 {
		t.Errorf("status = %v; want exit status 3", s)
	}
}

func TestRusage(t *testing.T) {
	w := newWaiter(t)
	pid, fd := start(t, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
	s := receive(t, add(t, w, pid, fd))
	if used := time.Duration(s.Rusage.Utime.Nano()); used <= 0 || s.Rusage.Maxrss <= 0 {
		t.Errorf("rusage = %v, %d KiB; want more than nothing", used, s.Rusage.Maxrss)
	}
}

// Somebody else's wait takes the status away; that is told, not waited for.
func TestStolen(t *testing.T) {
	w := newWaiter(t)
	pid, fd := start(t, "exit 1")
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if s := receive(t, add(t, w, pid, fd)); !errors.Is(s.Err, unix.ECHILD) || s.Code != -1 {
		t.Errorf("status = %+v; want ECHILD", s)
	}
}

func TestManyAtOnce(t *testing.T) {
	const workers, each = 8, 50
	w := newWaiter(t)
	files, threads := count(t, "/proc/self/fd"), count(t, "/proc/self/task")
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for i := range each {
				cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("exit %d", (worker*each+i)%256))
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				fd, err := Open(cmd.Process.Pid)
				if err != nil {
					t.Error(err)
					return
				}
				exited := make(chan Status, 1)
				if err := w.Add(cmd.Process.Pid, fd, func(s Status) { exited <- s }); err != nil {
					t.Error(err)
					return
				}
				if s := <-exited; s.Code != (worker*each+i)%256 || s.PID != cmd.Process.Pid {
					t.Errorf("status = %+v; want pid %d, code %d", s, cmd.Process.Pid, (worker*each+i)%256)
				}
				fd.Close()
				cmd.Process.Release()
			}
		})
	}
	group.Wait()
	if n := len(w.children); n != 0 {
		t.Errorf("%d children are still registered; want 0", n)
	}
	if got := count(t, "/proc/self/fd"); got != files {
		t.Errorf("open files = %d; want %d as before", got, files)
	}
	if got := count(t, "/proc/self/task"); got > threads+workers+4 {
		t.Errorf("threads = %d, before %d; want no thread per process", got, threads)
	}
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Many waiting processes need neither threads nor goroutines.
func TestManyIdle(t *testing.T) {
	const total = 200
	w := newWaiter(t)
	goroutines, threads := runtime.NumGoroutine(), count(t, "/proc/self/task")
	exited := make(chan Status, total)
	var fds []*os.File
	for range total {
		pid, fd := start(t, "exec sleep 1000")
		fds = append(fds, fd)
		if err := w.Add(pid, fd, func(s Status) { exited <- s }); err != nil {
			t.Fatal(err)
		}
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("goroutines = %d; want %d as before", got, goroutines)
	}
	if got := count(t, "/proc/self/task"); got > threads+4 {
		t.Errorf("threads = %d, before %d; want no thread per process", got, threads)
	}
	for _, fd := range fds {
		if err := Signal(fd, unix.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	for range total {
		if s := receive(t, exited); s.Signal != unix.SIGKILL {
			t.Errorf("status = %v; want killed", s)
		}
	}
}

func TestClose(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	w, err := NewWaiter()
	if err != nil {
		t.Fatal(err)
	}
	pid, fd := start(t, "exec sleep 1000")
	called := false
	if err := w.Add(pid, fd, func(Status) { called = true }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
	if err := w.Add(pid, fd, func(Status) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("Add after Close = %v; want ErrClosed", err)
	}
	if got := runtime.NumGoroutine(); got != goroutines {
		t.Errorf("goroutines = %d; want %d as before", got, goroutines)
	}
	if err := Signal(fd, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil || called {
		t.Errorf("wait after Close: %v, callback called: %v; want the child unreaped, no call", err, called)
	}
}

func TestAddBadFile(t *testing.T) {
	w := newWaiter(t)
	file, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := w.Add(1, file, func(Status) { t.Error("status of no child") }); !errors.Is(err, unix.EPERM) {
		t.Errorf("Add(regular file) = %v; want EPERM", err)
	}
	if n := len(w.children); n != 0 {
		t.Errorf("%d children are registered; want 0", n)
	}
}
