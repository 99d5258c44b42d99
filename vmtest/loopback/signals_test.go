package loopback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// TestInGuestSignals has signals fall on every thread of client and agent all the time: no dial and no accept fails for that, on either side.
func TestInGuestSignals(t *testing.T) {
	needGuest(t)
	pid, _ := startAgent(t, "1")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	hail(ctx, t, os.Getpid(), pid)
	awaitInterruptedConnect(ctx, t)
	for range 200 {
		conn, err := hostclient.Vsock(cidLocal).Dial(ctx, port)
		if err != nil {
			t.Fatalf("Dial() = %v; want no error", err)
		}
		conn.Close()
	}
	client, err := hostclient.Connect(ctx, hostclient.Vsock(cidLocal), &hostclient.Config{ControlPort: port})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range 50 {
		out, err := client.Command(ctx, vmtest.Rootfs+"/bin/busybox", "echo", strconv.Itoa(i)).Output()
		if want := fmt.Sprintln(i); err != nil || string(out) != want {
			t.Fatalf("echo = %q, %v; want %q", out, err, want)
		}
	}
}

// hail sends signals to all threads of processes until the test ends. It is SIGURG, which the Go runtime uses for itself and takes from anybody.
func hail(ctx context.Context, t *testing.T, pids ...int) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, pid := range pids {
				tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
				for _, task := range tasks {
					if tid, err := strconv.Atoi(filepath.Base(task)); err == nil {
						_ = unix.Tgkill(pid, tid, unix.SIGURG) // it may have ended
					}
				}
			}
			time.Sleep(time.Millisecond) // or nothing else gets on
		}
	}()
}

// awaitInterruptedConnect calls connect(2) as a program does that knows nothing of this, until a signal has interrupted it: so they fall where they should.
func awaitInterruptedConnect(ctx context.Context, t *testing.T) {
	t.Helper()
	for ctx.Err() == nil {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Connect(fd, &unix.SockaddrVM{CID: cidLocal, Port: port})
		unix.Close(fd)
		if errors.Is(err, unix.EINTR) {
			return
		}
	}
	t.Fatal("no connect(2) was interrupted")
}
