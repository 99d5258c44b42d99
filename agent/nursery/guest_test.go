//go:build linux

package nursery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// The tests that start processes need root, namespaces of every kind, cgroup v2 and a machine that may be harmed: a guest. There they find a root with busybox.

func needGuest(t testing.TB) {
	t.Helper()
	if os.Getenv("BELLHOP_IN_GUEST") != "1" {
		t.Skip("needs a guest: run this test binary in a virtual machine with BELLHOP_IN_GUEST=1")
	}
}

const boxPath = "PATH=/bin"

// longTime bounds what happens at once on a machine that is not overloaded.
const longTime = 60 * time.Second

func startNursery(t testing.TB, cfg Config) *Nursery {
	t.Helper()
	needGuest(t)
	w, err := pidfd.NewWaiter()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Waiter = w
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	n, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Waiter.Close() = %v", err)
		}
	})
	return n
}

// finish waits for a child and closes what the test holds of it.
func finish(t testing.TB, c *Child) pidfd.Status {
	t.Helper()
	select {
	case s := <-c.Exited:
		c.PIDFD.Close()
		if c.Master != nil {
			c.Master.Close()
		}
		return s
	case <-time.After(longTime):
		t.Fatalf("process %d does not end", c.PID)
		return pidfd.Status{}
	}
}

// output runs a request and gives what it wrote to stdout and stderr. Its exit code must be 0.
func output(t testing.TB, n *Nursery, req Request) string {
	t.Helper()
	out, status := run(t, n, req)
	if status.Code != 0 {
		t.Fatalf("%q ended with %v; want exit status 0; output: %s", req.Args, status, out)
	}
	return out
}

func run(t testing.TB, n *Nursery, req Request) (string, pidfd.Status) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	req.Stdio[1], req.Stdio[2] = w, w
	if req.Env == nil {
		req.Env = []string{boxPath}
	}
	c, err := n.Spawn(t.Context(), &req)
	w.Close()
	if err != nil {
		t.Fatalf("Spawn(%q) = %v", req.Args, err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), finish(t, c)
}

// spawnError runs a request that must fail, and gives the ExecError.
func spawnError(t testing.TB, n *Nursery, req Request) *ExecError {
	t.Helper()
	if req.Env == nil {
		req.Env = []string{boxPath}
	}
	c, err := n.Spawn(t.Context(), &req)
	if err == nil {
		t.Fatalf("Spawn(%q) = process that ended with %v; want an error", req.Args, finish(t, c))
	}
	var e *ExecError
	if !errors.As(err, &e) {
		t.Fatalf("Spawn(%q) = %v (%T); want an ExecError", req.Args, err, err)
	}
	return e
}

// A box is a container made by hand: a process in namespaces of its own whose root is a tmpfs with busybox.
type box struct {
	pid    int
	init   *os.File // pidfd
	cgroup *os.File
	path   string // of the cgroup
}

type boxOptions struct {
	user    bool   // with a user namespace: 0 to 65535 are 100000 and up
	hostPID bool   // in the guest's pid namespace
	setup   string // shell commands run in the box, last
	command string // what its init executes; sleep if empty
}

const boxSetup = `
set -e
mount -t tmpfs -o mode=755 box /run/box
cd /run/box
mkdir bin dev dev/pts dev/shm proc sys tmp root old etc
chmod 1777 tmp
cp /bin/busybox bin/
for a in sh cat ls sleep true false echo mkdir ln sha256sum id ps kill uname dd grep env mount tty stty readlink chmod umount find stat head wc printf mknod pidof; do ln -s busybox bin/$a; done
touch dev/null dev/zero dev/tty
mount -o bind /dev/null dev/null
mount -o bind /dev/zero dev/zero
mount -o bind /dev/tty dev/tty
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t proc proc proc
pivot_root . old
umount -l old
rmdir old
cd /
`

func newBox(t testing.TB, o boxOptions) *box {
	t.Helper()
	needGuest(t)
	b := &box{path: filepath.Join("/sys/fs/cgroup", strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())+fmt.Sprint(time.Now().UnixNano()))}
	if err := os.Mkdir(b.path, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.cgroup, err = os.OpenFile(b.path, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/box", 0o755); err != nil {
		t.Fatal(err)
	}
	command := o.command
	if command == "" {
		command = "sleep 100000"
	}
	cmd := exec.Command("/bin/busybox", "sh", "-c", boxSetup+o.setup+"\necho ready\nexec "+command)
	cmd.Env = []string{boxPath}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP,
		UseCgroupFD: true, CgroupFD: int(b.cgroup.Fd()), Setsid: true,
	}
	if !o.hostPID {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	}
	if o.user {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.pid = cmd.Process.Pid
	if b.init, err = pidfd.Open(b.pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.WriteFile(b.path+"/cgroup.freeze", []byte("0"), 0)
		os.WriteFile(b.path+"/cgroup.kill", []byte("1"), 0)
		cmd.Wait()
		b.init.Close()
		b.cgroup.Close()
		eventually(t, "the box' cgroup is empty", func() bool { return os.Remove(b.path) == nil })
	})
	line := make([]byte, 6)
	if _, err := io.ReadFull(stdout, line); err != nil || string(line) != "ready\n" {
		t.Fatalf("box does not start: %v: %s%s", err, line, stderr.String())
	}
	return b
}

// in makes a request for a process in the box.
func (b *box) in(args ...string) Request {
	return Request{Init: b.init, Cgroup: b.cgroup, Args: args, Env: []string{boxPath}}
}

// eventually polls a condition that comes true by itself.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(longTime); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so within %v: %s", longTime, what)
		}
	}
}
