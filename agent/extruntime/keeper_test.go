//go:build linux

package extruntime

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/process"
)

// longTime bounds what happens at once on a machine that is not overloaded.
const longTime = 60 * time.Second

// newRuntimes makes Runtimes whose keepers are real: the test binary becomes them.
func newRuntimes(t *testing.T) *Runtimes {
	t.Helper()
	waiter, err := pidfd.NewWaiter()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{StateDir: filepath.Join(t.TempDir(), "state"), Waiter: waiter, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), waiter.Close()); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return r
}

// stdio gives /dev/null for input and a pipe for both outputs.
func stdio(t *testing.T) (files [3]*os.File, output func() string) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFiles([]*os.File{null, r, w}) })
	return [3]*os.File{null, w, w}, func() string {
		_ = w.Close()
		_ = r.SetReadDeadline(time.Now().Add(longTime))
		b, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("output %q has no end: %v", b, err)
		}
		return string(b)
	}
}

// runScript launches a keeper whose command is a script that has the pid file in $1.
func runScript(t *testing.T, r *Runtimes, script string, files [3]*os.File) *keeper {
	t.Helper()
	pidFile := filepath.Join(t.TempDir(), "pid")
	k, err := r.launch([]string{"/bin/sh", "-c", script, "runtime", pidFile}, pidFile, files)
	if err != nil {
		t.Fatalf("launch() = %v; want no error", err)
	}
	t.Cleanup(k.close)
	return k
}

func awaitReaped(t *testing.T, k *keeper) {
	t.Helper()
	select {
	case <-k.reaped:
	case <-time.After(longTime):
		t.Fatal("the keeper has not ended")
	}
}

// followed is a ward whose end is awaited.
func followed(t *testing.T, r *Runtimes, k *keeper) (w *ward, end func() (exit process.Exit, lost bool)) {
	t.Helper()
	if err := k.await(t.Context()); err != nil {
		t.Fatalf("await() = %v; want no error", err)
	}
	w, err := k.adopt()
	if err != nil {
		t.Fatalf("adopt() = %v; want no error", err)
	}
	var exit process.Exit
	var lost bool
	r.begin(w, func() { w.follow(func(e process.Exit) { exit = e }, func() { lost = true }) })
	return w, func() (process.Exit, bool) {
		t.Helper()
		select {
		case <-w.done:
		case <-time.After(longTime):
			t.Fatal("the process has not ended")
		}
		return exit, lost
	}
}

// TestKeeper lets commands leave processes, which are their orphans, and sees how those end. The stdio is closed with the process, and not held by the keeper.
func TestKeeper(t *testing.T) {
	for _, tt := range []struct {
		name, process string
		code          int
		signal        syscall.Signal
	}{
		{"success", "echo out", 0, 0},
		{"code", "exit 42", 42, 0},
		{"signal", "kill -TERM $$", 0, unix.SIGTERM},
		{"with an orphan of its own", "(sleep 0.1; exit 9) & exit 3", 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRuntimes(t)
			files, output := stdio(t)
			// The process waits, since the shell reaps it if it ends too early.
			gate := filepath.Join(t.TempDir(), "gate")
			if err := unix.Mkfifo(gate, 0o600); err != nil {
				t.Fatal(err)
			}
			k := runScript(t, r, `sh -c 'read go <`+gate+`; `+tt.process+`' & echo -n $! >$1`, files)
			_, end := followed(t, r, k)
			if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
				t.Fatal(err)
			}
			if exit, lost := end(); exit.Code != tt.code || exit.Signal != tt.signal || lost {
				t.Errorf("exit = %+v, keeper lost: %v; want code %d, signal %v", exit, lost, tt.code, tt.signal)
			}
			awaitReaped(t, k)
			want := ""
			if tt.name == "success" {
				want = "out\n"
			}
			if got := output(); got != want {
				t.Errorf("output = %q; want %q", got, want)
			}
		})
	}
}

// TestShortLivedProcess has processes that have ended before their command has: the keeper must not reap them before their pid is known.
func TestShortLivedProcess(t *testing.T) {
	r := newRuntimes(t)
	files, _ := stdio(t)
	// Its parent ends at once, and it before the command, which waits until it is a zombie: the keeper's child.
	k := runScript(t, r, `mkfifo $1.gate
		sh -c 'sh -c "read go; exit 7" <$1.gate & echo $! >$1; exec true' sh $1
		echo go >$1.gate
		until grep -q "^State:.Z" /proc/$(cat $1)/status; do :; done`, files)
	_, end := followed(t, r, k)
	if exit, lost := end(); exit.Code != 7 || lost {
		t.Errorf("exit = %+v, keeper lost: %v; want code 7", exit, lost)
	}
}

// TestSignalWard signals a process, and what is gone.
func TestSignalWard(t *testing.T) {
	r := newRuntimes(t)
	files, _ := stdio(t)
	w, end := followed(t, r, runScript(t, r, `sleep 1000 & echo $! >$1`, files))
	if err := w.signal(0); err != nil || w.ended() {
		t.Errorf("signal(0) = %v, ended() = %v; want a process that runs", err, w.ended())
	}
	if err := w.signal(unix.SIGUSR1); err != nil {
		t.Errorf("signal(SIGUSR1) = %v; want no error", err)
	}
	if exit, _ := end(); exit.Signal != unix.SIGUSR1 {
		t.Errorf("exit = %+v; want SIGUSR1", exit)
	}
	if err := w.signal(unix.SIGKILL); err != unix.ESRCH || !w.ended() {
		t.Errorf("signal() of an ended process = %v, ended() = %v; want ESRCH", err, w.ended())
	}
	if _, err := w.dup(); err != syscall.ESRCH {
		t.Errorf("dup() of an ended process = %v; want ESRCH", err)
	}
}

// TestLostKeeper kills keepers: while the command runs, which dies too, and afterwards, when the process is killed because nobody could tell how it ends.
func TestLostKeeper(t *testing.T) {
	r := newRuntimes(t)
	t.Run("command", func(t *testing.T) {
		files, output := stdio(t)
		k := runScript(t, r, `exec sleep 1000`, files)
		k.kill()
		if err := k.await(t.Context()); !errors.Is(err, errKeeperGone) {
			t.Errorf("await() = %v; want errKeeperGone", err)
		}
		awaitReaped(t, k)
		if got := output(); got != "" { // ends only when nobody has the pipe any more
			t.Errorf("output = %q; want none", got)
		}
	})
	t.Run("process", func(t *testing.T) {
		files, output := stdio(t)
		k := runScript(t, r, `sleep 1000 & echo $! >$1`, files)
		_, end := followed(t, r, k)
		k.kill()
		if exit, lost := end(); exit.Signal != unix.SIGKILL || !lost {
			t.Errorf("exit = %+v, keeper lost: %v; want SIGKILL, and it lost", exit, lost)
		}
		if got := output(); got != "" {
			t.Errorf("output = %q; want none", got)
		}
	})
}

// TestStoppedKeeper stops a keeper, so that it cannot report the end of its process: who waits for that does so in bounded time.
func TestStoppedKeeper(t *testing.T) {
	r := newRuntimes(t)
	files, _ := stdio(t)
	k := runScript(t, r, `sleep 1000 & echo $! >$1`, files)
	w, end := followed(t, r, k)
	if err := unix.Kill(k.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	_ = w.signal(unix.SIGKILL)
	ctx, cancel := context.WithTimeout(t.Context(), longTime)
	defer cancel()
	if err := w.join(ctx, 10*time.Millisecond); err != nil {
		t.Errorf("join() = %v; want no error", err)
	}
	if exit, lost := end(); exit.Signal != unix.SIGKILL || !lost {
		t.Errorf("exit = %+v, keeper lost: %v; want SIGKILL, and it lost", exit, lost)
	}
}

// TestFailedCommand leaves nothing behind of commands that fail, whatever they have started.
func TestFailedCommand(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		check        func(error) bool
	}{
		{"status", `sleep 1000 & exit 3`, func(err error) bool {
			var e *exitError
			return errors.As(err, &e) && e.status.ExitStatus() == 3
		}},
		{"signal", `sleep 1000 & kill -KILL $$`, func(err error) bool {
			var e *exitError
			return errors.As(err, &e) && e.status.Signal() == unix.SIGKILL
		}},
		{"orphans of orphans", `(sleep 1000 & sleep 1000 & (sleep 1000 & sleep 1000)& sleep 1000)& exit 1`, func(err error) bool { return errors.As(err, new(*exitError)) }},
		{"no pid file", `sleep 1000 &`, func(err error) bool { return errors.Is(err, unix.ENOENT) }},
		{"empty pid file", `: >$1`, func(err error) bool { return errors.Is(err, unix.EINVAL) }},
		{"pid of nobody's", `echo 1 >$1; sleep 1000 &`, func(err error) bool { return errors.Is(err, unix.ECHILD) }},
		{"negative pid", `echo -1 >$1`, func(err error) bool { return errors.Is(err, unix.EINVAL) }},
		{"huge pid", `echo 99999999999999 >$1`, func(err error) bool { return errors.Is(err, unix.EINVAL) }},
		{"word", `echo 12x >$1`, func(err error) bool { return errors.Is(err, unix.EINVAL) }},
		{"link as pid file", `echo 1 >$1.x; ln -s $1.x $1`, func(err error) bool { return errors.Is(err, unix.ELOOP) }},
		{"FIFO as pid file", `mkfifo $1`, func(err error) bool { return errors.Is(err, unix.EINVAL) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRuntimes(t)
			files, output := stdio(t)
			k := runScript(t, r, tt.script, files)
			err := k.await(t.Context())
			if err == nil {
				_, err = k.adopt()
			}
			if !tt.check(err) {
				t.Errorf("error = %v (%T); want another", err, err)
			}
			k.clear(r.cfg.Logger)
			awaitReaped(t, k)
			if got := output(); got != "" { // ends only when nobody has the pipe any more
				t.Errorf("output = %q; want none", got)
			}
		})
	}
}

// TestCancelledCommand cancels a command that hangs.
func TestCancelledCommand(t *testing.T) {
	r := newRuntimes(t)
	files, output := stdio(t)
	k := runScript(t, r, `sleep 1000 & sleep 1000`, files)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("no more")
	cancel(cause)
	if err := k.await(ctx); err != cause {
		t.Errorf("await() = %v; want %v", err, cause)
	}
	k.clear(r.cfg.Logger)
	if got := output(); got != "" {
		t.Errorf("output = %q; want none", got)
	}
}

// TestNoProgram has a command that cannot be executed.
func TestNoProgram(t *testing.T) {
	r := newRuntimes(t)
	files, _ := stdio(t)
	k, err := r.launch([]string{"/nonexistent"}, "", files)
	if err != nil {
		t.Fatal(err)
	}
	err = k.await(t.Context())
	if err == nil || !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "cannot execute the runtime") {
		t.Errorf("await() = %v; want ENOENT of the exec", err)
	}
	k.clear(r.cfg.Logger)
	awaitReaped(t, k)
}

// TestRuntimeSurroundings shows what a runtime is run with: no file but its stdio, nothing of the agent's environment, and no protection from the OOM killer.
func TestRuntimeSurroundings(t *testing.T) {
	t.Setenv("SECRET", "of the agent")
	r := newRuntimes(t)
	files, output := stdio(t)
	k, err := r.launch([]string{"/bin/sh", "-c", `ls /proc/self/fd | tr '\n' ' '; cat /proc/self/oom_score_adj; pwd; echo "$SECRET"`}, "", files)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.await(t.Context()); err != nil {
		t.Errorf("await() = %v; want no error", err)
	}
	awaitReaped(t, k)
	// ls opens the directory, as 3.
	if got, want := output(), "0 1 2 3 0\n/\n\n"; got != want {
		t.Errorf("output = %q; want %q", got, want)
	}
	k.close()
}

// TestCloseLeavesProcesses ends the agent's part while a process runs: it lives on, and nothing hangs.
func TestCloseLeavesProcesses(t *testing.T) {
	waiter, err := pidfd.NewWaiter()
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	r, err := New(Config{Waiter: waiter, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	files, _ := stdio(t)
	k := runScript(t, r, `sleep 1000 & echo $! >$1`, files)
	if err := k.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := k.adopt()
	if err != nil {
		t.Fatal(err)
	}
	r.begin(w, func() {
		w.follow(func(process.Exit) { t.Error("the end of the process was told") }, func() { t.Error("the keeper was lost") })
	})
	if err := r.Close(); err != nil {
		t.Errorf("Close() = %v; want nil", err)
	}
	if w.ended() {
		t.Error("the process has ended with the agent's part")
	}
	_ = w.signal(unix.SIGKILL)
	awaitReaped(t, k)
}

// TestSealedBinary runs keepers from a file that is given.
func TestSealedBinary(t *testing.T) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Exe: exe, Logger: slog.New(slog.DiscardHandler)})
	_ = exe.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.cfg.Waiter, err = pidfd.NewWaiter(); err != nil {
		t.Fatal(err)
	}
	defer r.cfg.Waiter.Close()
	files, output := stdio(t)
	k, err := r.launch([]string{"/bin/echo", "ran"}, "", files)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	if err := k.await(t.Context()); err != nil {
		t.Errorf("await() = %v; want no error", err)
	}
	if got := output(); got != "ran\n" {
		t.Errorf("output = %q; want ran", got)
	}
}
