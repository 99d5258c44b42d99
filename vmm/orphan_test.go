//go:build linux

package vmm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// orphanEnv makes the test binary a host that starts a VM and waits for its own
// death: "kernel initrd", separated by a newline.
const orphanEnv = "BELLHOP_VMM_TEST_ORPHAN"

// runOrphan prints QEMU's pid when the VM runs.
func runOrphan() int {
	kernel, initrd, _ := strings.Cut(os.Getenv(orphanEnv), "\n")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	vm, err := Start(ctx, Config{Kernel: kernel, Initrd: initrd, Cmdline: []string{"mode=hang"}, Memory: 128 << 20, Vsock: VsockNone})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer vm.Close()
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return 1
	}
	for _, file := range children {
		if pid, _ := os.ReadFile(file); len(pid) > 0 {
			fmt.Println(strings.TrimSpace(string(pid)))
		}
	}
	vm.Wait()
	return 0
}

// TestHostDies ends the host process in several ways; QEMU must not outlive it.
func TestHostDies(t *testing.T) {
	cfg := testConfig(t, "hang")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			temp := t.TempDir()
			host := exec.Command(exe)
			host.Env = append(os.Environ(), orphanEnv+"="+cfg.Kernel+"\n"+cfg.Initrd, "TMPDIR="+temp)
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				host.Process.Kill()
				host.Wait()
				t.Fatalf("the host said %q; want QEMU's pid", line)
			}
			host.Process.Signal(sig)
			host.Wait()
			waitGone(t, pid)
			if left, _ := os.ReadDir(temp); len(left) > 0 {
				t.Errorf("left behind: %v; want nothing", left)
			}
		})
	}
}

// waitGone waits until no process has the pid, or only a dead one.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("QEMU (pid %d) outlives its host: %s", pid, stat)
		}
		time.Sleep(10 * time.Millisecond) // polling: there is nothing to wait on
	}
}
