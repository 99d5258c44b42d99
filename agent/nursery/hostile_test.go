//go:build linux

package nursery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A container that stops and kills all it can see harms its own processes only.
func TestHostileSignals(t *testing.T) {
	n := startNursery(t, Config{})
	for _, o := range []boxOptions{{}, {user: true}} {
		for _, sig := range []string{"STOP", "KILL"} {
			t.Run(fmt.Sprintf("%v %s", o.user, sig), func(t *testing.T) {
				hostile := o
				hostile.command = "sh -c 'while :; do kill -" + sig + " -1; done' 2>/dev/null"
				attacker, other := newBox(t, hostile), newBox(t, boxOptions{})
				pid := nurseryPID(n)
				files, before := openFiles(t), len(children(t))
				for range 20 {
					start := make(chan error, 1)
					ctx, cancel := context.WithCancel(t.Context())
					go func() {
						r := attacker.in("true")
						c, err := n.Spawn(ctx, &r)
						if err == nil {
							unix.PidfdSendSignal(int(c.PIDFD.Fd()), unix.SIGKILL, nil, 0)
							finish(t, c)
						}
						start <- err
					}()
					output(t, n, other.in("true"))
					cancel()
					if err := <-start; err != nil && !errors.Is(err, ctx.Err()) {
						t.Errorf("Spawn in the hostile container = %v; want a process, or Canceled", err)
					}
				}
				if nurseryPID(n) != pid {
					t.Error("the nursery has died")
				}
				eventually(t, "no process is left", func() bool { return len(children(t)) == before })
				eventually(t, "no file is left", func() bool { return openFiles(t) == files })
			})
		}
	}
}

// A working directory or a program outside the container cannot be reached by way of file descriptors.
func TestHostilePaths(t *testing.T) {
	n := startNursery(t, Config{})
	for _, user := range []bool{false, true} {
		b := newBox(t, boxOptions{user: user, setup: "for i in 0 1 2 3 4 5 6 7 8 9; do ln -s /proc/self/fd/$i /tmp/fd$i; done"})
		for fd := range 10 {
			for _, base := range []string{"/proc/self/fd/", "/tmp/fd", "/proc/thread-self/fd/"} {
				link := base + fmt.Sprint(fd)
				for _, cwd := range []string{link, link + "/..", link + "/../../../../.."} {
					r := b.in("/bin/true")
					r.Cwd = cwd
					if _, err := n.Spawn(t.Context(), &r); err == nil {
						t.Errorf("cwd %s: a process; want an error", cwd)
					}
				}
				for _, path := range []string{link, link + "/bin/true", link + "/../../../bin/guestbin"} {
					if _, err := n.Spawn(t.Context(), ptr(b.in(path))); err == nil {
						t.Errorf("exec %s: a process; want an error", path)
					}
				}
			}
		}
	}
}

// The binary that a container can reach by executing /proc/self/exe cannot be written to (CVE-2019-5736).
func TestOwnBinary(t *testing.T) {
	n := startNursery(t, Config{})
	output(t, n, Request{Args: []string{"true"}}) // from the start of its execve on a process is there, and a little later it runs another binary
	link := fmt.Sprintf("/proc/%d/exe", nurseryPID(n))
	for _, flags := range []int{os.O_WRONLY, os.O_WRONLY | os.O_TRUNC, os.O_RDWR} {
		f, err := os.OpenFile(link, flags, 0)
		if err == nil {
			_, err = f.Write([]byte("x"))
			f.Close()
		}
		if err == nil {
			t.Errorf("write to the nursery's binary with flags %#x succeeds; want an error", flags)
		}
	}
	f, err := os.Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || got&seals != seals {
		t.Errorf("seals of the nursery's binary = %#x, %v; want %#x", got, err, seals)
	}
}

// Neither the nursery nor a child that is being prepared can be inspected from inside a container, even by its root with CAP_SYS_PTRACE over itself.
func TestHostileTracer(t *testing.T) {
	n := startNursery(t, Config{})
	b := newBox(t, boxOptions{user: true})
	// Frozen in a cgroup of its own, the child stands still before it has executed; the box' other processes run.
	path := b.path + "-frozen"
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"/cgroup.freeze", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		dir.Close()
		eventually(t, "the cgroup is empty", func() bool { return os.Remove(path) == nil })
	}()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		r := b.in("true")
		r.Cgroup = dir
		_, err := n.Spawn(ctx, &r)
		result <- err
	}()
	eventually(t, "the child is there", func() bool {
		procs, err := os.ReadFile(path + "/cgroup.procs")
		return err == nil && len(procs) > 0
	})
	out, _ := run(t, n, b.in("/bin/busybox", "sh", "-c", `
		for p in /proc/[0-9]*; do
			case $(cat $p/comm) in bellhop*) ;; *) continue;; esac
			echo found
			cat $p/environ > /dev/null 2>&1 && echo environ
			ls $p/fd > /dev/null 2>&1 && echo fd
			ls $p/root/ > /dev/null 2>&1 && echo root
			head -c 1 $p/mem > /dev/null 2>&1 && echo mem
			readlink $p/exe && echo exe
		done`))
	if out != "found\n" {
		t.Errorf("a container sees of a child that is being prepared: %q; want that it exists, only", out)
	}
	cancel()
	if err := <-result; !errors.Is(err, ctx.Err()) {
		t.Errorf("Spawn() = %v; want Canceled", err)
	}
}

// A request's memory is wiped: neither the nursery nor a later child has what an earlier one was given.
func TestNoSecretIsLeft(t *testing.T) {
	n := startNursery(t, Config{})
	secret := strings.Repeat("s3cr3t", 3)
	r := Request{Args: []string{"true"}, Env: []string{boxPath, "SECRET=" + secret}}
	output(t, n, r)
	output(t, n, Request{Args: []string{"true"}})
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", nurseryPID(n)))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", nurseryPID(n)))
	if err != nil {
		t.Fatal(err)
	}
	searched := 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil || perms[1] != 'w' {
			continue
		}
		b := make([]byte, to-from)
		k, _ := mem.ReadAt(b, from)
		searched += k
		if strings.Contains(string(b[:k]), secret) {
			t.Errorf("the secret is left in %s", line)
		}
	}
	if searched < 32<<10 {
		t.Errorf("searched %d bytes of the nursery's memory; want all that is writable", searched)
	}
}
