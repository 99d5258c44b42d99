//go:build linux

package nursery

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seccomp"
)

func TestFailedSteps(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		for _, c := range []struct {
			name  string
			args  []string
			set   func(*Request)
			step  string
			errno unix.Errno
			about string // in the message
		}{
			{"missing", []string{"nope"}, nil, StepExec, unix.ENOENT, "exec nope"},
			{"missing path", []string{"/bin/nope"}, nil, StepExec, unix.ENOENT, "exec /bin/nope"},
			{"empty", []string{""}, nil, StepExec, unix.ENOENT, `exec ""`},
			{"not executable", []string{"/etc/text"}, nil, StepExec, unix.EACCES, "exec /etc/text"},
			{"directory", []string{"/bin"}, nil, StepExec, unix.EACCES, "exec /bin"},
			{"in a file", []string{"/etc/text/x"}, nil, StepExec, unix.ENOTDIR, ""},
			{"no binary", []string{"/etc/script"}, nil, StepExec, unix.ENOEXEC, ""},
			{"denied before missing", []string{"text"}, func(r *Request) { r.Env = []string{"PATH=/bin:/etc:/tmp"} }, StepExec, unix.EACCES, "exec /etc/text"},
			{"relative path entries", []string{"sh"}, func(r *Request) { r.Env = []string{"PATH=:.:bin"} }, StepExec, unix.ENOENT, ""},
			{"cwd is a file", []string{"true"}, func(r *Request) { r.Cwd = "/etc/text" }, StepCwd, unix.ENOTDIR, "/etc/text"},
			{"cwd in a file", []string{"true"}, func(r *Request) { r.Cwd = "/etc/text/x" }, StepCwd, unix.ENOTDIR, ""},
			{"cwd cannot be made", []string{"true"}, func(r *Request) { r.Cwd = "/proc/x" }, StepCwd, unix.ENOENT, ""},
			{"soft above hard", []string{"true"}, func(r *Request) { r.Rlimits = []Rlimit{{unix.RLIMIT_CORE, 2, 1}} }, StepRlimit, unix.EINVAL, ""},
			{"unknown limit", []string{"true"}, func(r *Request) { r.Rlimits = []Rlimit{{99, 1, 1}} }, StepRlimit, unix.EINVAL, "99"},
			{"open files above the kernel's", []string{"true"}, func(r *Request) { r.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 1 << 40, 1 << 40}} }, StepRlimit, unix.EPERM, ""},
			{"scheduler", []string{"true"}, func(r *Request) { r.Scheduler = &unix.SchedAttr{Size: 56, Policy: 77} }, StepScheduler, unix.EINVAL, ""},
			{"io priority", []string{"true"}, func(r *Request) { r.IOPriority = 7 << 13 }, StepIOPriority, unix.EINVAL, ""},
			{"affinity", []string{"true"}, func(r *Request) { r.Affinity = &unix.CPUSet{}; r.Affinity.Set(1000) }, StepAffinity, unix.EINVAL, ""},
			{"capability beyond the bounding set", []string{"true"}, func(r *Request) { r.Capabilities = &Capabilities{Effective: 1} }, StepCapabilities, unix.EPERM, ""},
			{"too much", []string{"true", strings.Repeat("x", 200_000)}, nil, StepExec, unix.E2BIG, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				output(t, n, in("/bin/busybox", "sh", "-c", "[ -d /etc ]; echo x > /etc/text; echo x > /etc/script; chmod 755 /etc/script"))
				r := in(c.args...)
				if c.set != nil {
					c.set(&r)
				}
				e := spawnError(t, n, r)
				if e.Step != c.step || e.Errno != c.errno || !strings.Contains(e.Error(), c.about) {
					t.Errorf("Spawn() = %v (%q, %v); want step %q, %v, about %q", e, e.Step, e.Errno, c.step, c.errno, c.about)
				}
			})
		}
	})
}

func TestUnmappedIDs(t *testing.T) {
	n := startNursery(t, Config{})
	b := newBox(t, boxOptions{user: true})
	for step, set := range map[string]func(*Request){
		StepUID:    func(r *Request) { r.UID = 70000 },
		StepGID:    func(r *Request) { r.GID = 70000 },
		StepGroups: func(r *Request) { r.Groups = []uint32{70000} },
	} {
		r := b.in("true")
		set(&r)
		if e := spawnError(t, n, r); e.Step != step || e.Errno != unix.EINVAL {
			t.Errorf("unmapped id: %v; want step %q, EINVAL", e, step)
		}
	}
}

func TestInvalid(t *testing.T) {
	n := startNursery(t, Config{})
	for name, r := range map[string]Request{
		"no args":          {},
		"NUL":              {Args: []string{"a\x00b"}},
		"relative cwd":     {Args: []string{"true"}, Cwd: "tmp"},
		"oom score":        {Args: []string{"true"}, OOMScoreAdj: 1001},
		"umask":            {Args: []string{"true"}, Umask: ptr(uint32(0o1000))},
		"terminal + stdio": {Args: []string{"true"}, Terminal: true, Stdio: [3]*os.File{os.Stdin}},
		"seccomp":          {Args: []string{"true"}, Seccomp: seccomp.Filter{Program: []byte("garbage")}},
	} {
		if _, err := n.Spawn(t.Context(), &r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Spawn() = %v; want ErrInvalid", name, err)
		}
	}
}

func TestGoneContainer(t *testing.T) {
	n := startNursery(t, Config{})
	b := newBox(t, boxOptions{})
	if err := os.WriteFile(b.path+"/cgroup.kill", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "init is dead", func() bool { return hasExited(b.init) })
	r := b.in("true")
	if _, err := n.Spawn(t.Context(), &r); !errors.Is(err, ErrInitExited) {
		t.Errorf("Spawn in a dead container = %v; want ErrInitExited", err)
	}
	// A cgroup that has been removed.
	path := "/sys/fs/cgroup/gone"
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if e := spawnError(t, n, Request{Args: []string{"true"}, Cgroup: dir}); e.Step != StepFork || e.Errno != unix.ENOENT {
		t.Errorf("Spawn into a removed cgroup = %v; want step %q, ENOENT", e, StepFork)
	}
}

// A frozen cgroup holds up its own processes only; their Spawn ends with its context, and nothing is left.
func TestFrozenCgroup(t *testing.T) {
	n := startNursery(t, Config{Bound: 3 * time.Second})
	frozen, other := newBox(t, boxOptions{}), newBox(t, boxOptions{})
	if err := os.WriteFile(frozen.path+"/cgroup.freeze", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	before := children(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 10)
	for range cap(result) {
		go func() {
			r := frozen.in("true")
			_, err := n.Spawn(ctx, &r)
			result <- err
		}()
	}
	eventually(t, "the frozen processes are there", func() bool { return len(children(t)) == len(before)+cap(result) })
	// Longer than the bound: a pending exec is no reason to suspect the nursery.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		output(t, n, other.in("true"))
	}
	if len(result) != 0 {
		t.Errorf("Spawn into a frozen cgroup = %v; want it pending", <-result)
	}
	cancel()
	for range cap(result) {
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("Spawn into a frozen cgroup = %v; want Canceled", err)
		}
	}
	eventually(t, "no process is left", func() bool { return len(children(t)) == len(before) })
	// Thawed, it goes on.
	thawed := make(chan error, 1)
	go func() {
		r := frozen.in("true")
		c, err := n.Spawn(t.Context(), &r)
		if err == nil {
			finish(t, c)
		}
		thawed <- err
	}()
	eventually(t, "the frozen process is there", func() bool { return len(children(t)) == len(before)+1 })
	if err := os.WriteFile(frozen.path+"/cgroup.freeze", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-thawed; err != nil {
		t.Errorf("Spawn into a thawed cgroup = %v; want a process", err)
	}
}
