// Command guest is the agent of pid1's tests: it runs as the child of PID 1 in a
// VM, does what pid1test= on the kernel command line says, and reports on the
// console. "ok" lines are passes; a test that says anything else has failed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pid1"
)

const childPath = "/child"

func main() {
	parent := pid1.Find()
	if parent == nil {
		fmt.Println("not the child of PID 1")
		os.Exit(1)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("cannot mount /proc:", err)
		os.Exit(1)
	}
	os.Exit(run(parent, mode()))
}

func mode() string {
	cmdline, _ := os.ReadFile("/proc/cmdline")
	for _, word := range strings.Fields(string(cmdline)) {
		if mode, ok := strings.CutPrefix(word, "pid1test="); ok {
			return mode
		}
	}
	return ""
}

func run(parent *pid1.Parent, mode string) int {
	switch mode {
	case "checks":
		return checks(parent)
	case "exit":
		return 3
	case "reboot":
		return pid1.ExitReboot
	case "ending":
		parent.SetEnding(pid1.Reboot)
		return 0
	case "killed":
		return killed()
	case "disks":
		return useDisks()
	}
	fmt.Println("unknown test", mode)
	return 1
}

func checks(parent *pid1.Parent) int {
	failed := 0
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"identity", identity},
		{"start time", func() error { return startTime(parent.Start()) }},
		{"sealed binary", sealed},
		{"pivot_root", pivotRoot},
		{"root of PID 1", rootOfPID1},
		{"signals", signals},
		{"orphans", orphans},
	} {
		if err := c.run(); err != nil {
			fmt.Printf("FAIL %s: %v\n", c.name, err)
			failed++
			continue
		}
		fmt.Println("ok", c.name)
	}
	return failed
}

// identity checks that nothing of the kernel command line has arrived.
func identity() error {
	env := os.Environ()
	slices.Sort(env)
	want := []string{"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if !slices.Equal(env, want) {
		return fmt.Errorf("environment = %q; want %q", env, want)
	}
	if os.Args[0] != "bellhopd" || strings.Join(os.Args[1:], "") != "" {
		return fmt.Errorf("arguments = %q; want bellhopd alone", os.Args)
	}
	if os.Getpid() == 1 || os.Getppid() != 1 {
		return fmt.Errorf("pid %d, parent %d; want the child of PID 1", os.Getpid(), os.Getppid())
	}
	for pid, want := range map[int]string{1: "bellhop-init", os.Getpid(): "bellhopd"} {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(comm)); got != want {
			return fmt.Errorf("name of process %d = %q; want %q", pid, got, want)
		}
	}
	return nil
}

func startTime(start time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return err
	}
	if start <= 0 || start >= time.Duration(now.Nano()) {
		return fmt.Errorf("PID 1 began at %v, and now it is %v", start, time.Duration(now.Nano()))
	}
	return nil
}

func sealed() error {
	const want = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("cannot read the seals: %w", err)
	}
	if seals&want != want {
		return fmt.Errorf("seals = %#x; want %#x", seals, want)
	}
	if _, err := os.Stat("/init"); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stat /init: %v; want that it does not exist", err)
	}
	fds, err := os.ReadDir("/proc/1/fd")
	if err != nil || len(fds) != 3 {
		return fmt.Errorf("PID 1 has %d open files (%v); want 3", len(fds), err)
	}
	return nil
}

// pivotRoot needs a root mount that has a parent.
func pivotRoot() error {
	if err := os.MkdirAll("/newroot", 0o755); err != nil {
		return err
	}
	done := make(chan error)
	go func() { done <- pivotHere() }()
	return <-done
}

func pivotHere() error {
	runtime.LockOSThread() // and never unlocked: the thread must not run other goroutines
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	if err := unix.Mount("new", "/newroot", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := unix.Chdir("/newroot"); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	return unix.Unmount(".", unix.MNT_DETACH)
}

func rootOfPID1() error {
	if _, err := os.Stat("/proc/1/root/proc/self"); err != nil {
		return fmt.Errorf("PID 1 does not see what the agent mounts: %w", err)
	}
	return nil
}

// signals checks that PID 1 forwards what it gets.
func signals() error {
	got := make(chan os.Signal, 8)
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPWR, unix.SIGUSR1, unix.SIGWINCH} {
		signal.Notify(got, sig)
		if err := unix.Kill(1, sig); err != nil {
			return fmt.Errorf("kill: %w", err)
		}
		select {
		case s := <-got:
			if s != sig {
				return fmt.Errorf("PID 1 forwarded %v as %v", sig, s)
			}
		case <-time.After(10 * time.Second):
			return fmt.Errorf("PID 1 did not forward %v", sig)
		}
		signal.Reset(sig)
	}
	return nil
}

// orphans spawns from several goroutines and compares every exit code. Its
// children leave orphans, which PID 1 must reap and nobody else may.
func orphans() error {
	const spawns, workers, each = 2000, 8, 2
	codes := make(chan int)
	errs := make(chan error, spawns)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for code := range codes {
				errs <- spawn(code, each)
			}
		})
	}
	for i := range spawns {
		codes <- i % 100
	}
	close(codes)
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return noStrangers()
}

func spawn(code, orphans int) error {
	cmd := exec.Command(childPath, "orphans", fmt.Sprint(code), fmt.Sprint(orphans))
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return fmt.Errorf("status of a child lost: %w", err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("exit code = %d (%v); want %d", got, cmd.ProcessState, code)
	}
	return nil
}

// noStrangers waits until no child is left: neither zombies nor orphans.
func noStrangers() error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left, err := strangers()
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes left, such as %s", len(left), left[0])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// strangers lists what the children left behind, dead or alive.
func strangers() ([]string, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var left []string
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err == nil && strings.Contains(string(b), "(child)") {
			left = append(left, strings.TrimSpace(string(b)))
		}
	}
	return left, nil
}

// killed leaves a process that nothing but SIGKILL ends, and dies of a signal.
func killed() int {
	cmd := exec.Command(childPath, "stubborn")
	out, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		fmt.Println(err)
		return 1
	}
	unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}
