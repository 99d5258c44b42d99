//go:build linux

package nursery

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// children are the pids of this process' children, zombies included.
func children(t testing.TB) []string {
	t.Helper()
	var pids []string
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, _ := os.ReadFile(file) // the thread may be gone
		pids = append(pids, strings.Fields(string(b))...)
	}
	return pids
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func nurseryPID(n *Nursery) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inst == nil {
		return 0
	}
	return n.inst.pid
}

// storm runs total processes by so many workers at once. Each process says its number, and ends with it.
func storm(t *testing.T, workers, total int, spawn func(i int) error) {
	t.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := spawn(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range total {
		next <- i
	}
	close(next)
	wg.Wait()
}

// numbered starts a process that ends with a code of its own, and wants just that.
func numbered(t *testing.T, n *Nursery, b *box, i int) error {
	r := b.in("sh", "-c", fmt.Sprintf("exit %d", i%200))
	c, err := n.Spawn(t.Context(), &r)
	if err != nil {
		return fmt.Errorf("Spawn() = %w; want a process", err)
	}
	if s := finish(t, c); s.Code != i%200 || s.Err != nil {
		return fmt.Errorf("status = %v; want exit status %d", s, i%200)
	}
	return nil
}

func TestNoLeak(t *testing.T) {
	n := startNursery(t, Config{})
	b := newBox(t, boxOptions{})
	storm(t, 8, 100, func(i int) error { return numbered(t, n, b, i) })
	files, pids, pid := openFiles(t), len(children(t)), nurseryPID(n)
	storm(t, 8, 2000, func(i int) error {
		if i%10 == 0 { // failures, too
			r := b.in("nope")
			if _, err := n.Spawn(t.Context(), &r); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("Spawn(nope) = %w; want not exist", err)
			}
			return nil
		}
		return numbered(t, n, b, i)
	})
	if nurseryPID(n) != pid {
		t.Error("the nursery has died")
	}
	eventually(t, "no process is left", func() bool { return len(children(t)) == pids })
	if got := openFiles(t); got != files {
		t.Errorf("open files = %d; want %d as before", got, files)
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil || len(entries) != 6 {
		t.Errorf("open files of the nursery = %v, %v; want 6: stdio, its socket, its pidfd, its oom score", entries, err)
	}
}

// The nursery is killed, or stopped, at random moments: each request becomes one process all the same, and nothing is left.
func TestKilledAndStopped(t *testing.T) {
	for _, c := range []struct {
		name  string
		sig   unix.Signal
		round int // requests at a time, until the nursery was hit often enough
		pause time.Duration
	}{{"killed", unix.SIGKILL, 600, 60 * time.Millisecond}, {"stopped", unix.SIGSTOP, 300, 1500 * time.Millisecond}} {
		t.Run(c.name, func(t *testing.T) {
			n := startNursery(t, Config{Bound: 2 * time.Second})
			b := newBox(t, boxOptions{})
			// Each process leaves a mark, so that one that ran twice shows.
			output(t, n, b.in("mkdir", "/tmp/marks"))
			files, pids := openFiles(t), len(children(t))
			const enough = 3
			var hits atomic.Int32
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(rand.Int64N(int64(2 * c.pause)))):
					}
					if pid := nurseryPID(n); pid != 0 && unix.Kill(pid, c.sig) == nil {
						hits.Add(1)
					}
				}
			})
			var total, unavailable atomic.Int32
			request := func(int) error {
				i := int(total.Add(1))
				r := b.in("sh", "-c", fmt.Sprintf("echo x >> /tmp/marks/%d; exit %d", i, i%200))
				child, err := n.Spawn(t.Context(), &r)
				if errors.Is(err, ErrUnavailable) {
					unavailable.Add(1)
					return nil
				}
				if err != nil {
					return err
				}
				if s := finish(t, child); s.Code != i%200 {
					return fmt.Errorf("status = %v; want exit status %d", s, i%200)
				}
				return nil
			}
			for hits.Load() < enough && !t.Failed() {
				storm(t, 8, c.round, request)
			}
			close(stop)
			wg.Wait()
			t.Logf("%d signals; %d of %d requests failed cleanly", hits.Load(), unavailable.Load(), total.Load())
			out := output(t, n, b.in("sh", "-c", "cat /tmp/marks/* | wc -l; ls /tmp/marks | wc -l"))
			if want := fmt.Sprintf("%d\n%d\n", total.Load()-unavailable.Load(), total.Load()-unavailable.Load()); out != want {
				t.Errorf("processes and marks = %q; want %q", out, want)
			}
			eventually(t, "no process is left", func() bool { return len(children(t)) == pids })
			eventually(t, "no file is left", func() bool { return openFiles(t) == files })
		})
	}
}

func TestClose(t *testing.T) {
	n := startNursery(t, Config{})
	b := newBox(t, boxOptions{})
	if err := os.WriteFile(b.path+"/cgroup.freeze", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	before := len(children(t))
	pending := make(chan error, 1)
	go func() {
		r := b.in("true")
		_, err := n.Spawn(t.Context(), &r)
		pending <- err
	}()
	eventually(t, "the process is there", func() bool { return len(children(t)) == before+1 })
	if err := n.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if err := <-pending; !errors.Is(err, ErrClosed) {
		t.Errorf("pending Spawn = %v; want ErrClosed", err)
	}
	if _, err := n.Spawn(t.Context(), &Request{Args: []string{"true"}}); !errors.Is(err, ErrClosed) {
		t.Errorf("Spawn after Close = %v; want ErrClosed", err)
	}
	eventually(t, "neither child nor nursery is left", func() bool { return len(children(t)) == before-1 })
}
