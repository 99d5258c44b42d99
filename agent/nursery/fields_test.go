//go:build linux

package nursery

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func ptr[T any](v T) *T { return &v }

// each runs a test outside of containers, in a container, and in one with a user namespace.
func each(t *testing.T, f func(t *testing.T, n *Nursery, in func(args ...string) Request)) {
	needGuest(t)
	n := startNursery(t, Config{})
	t.Run("outside", func(t *testing.T) {
		f(t, n, func(args ...string) Request { return Request{Args: args, Env: []string{boxPath}} })
	})
	t.Run("container", func(t *testing.T) { f(t, n, newBox(t, boxOptions{}).in) })
	t.Run("userns", func(t *testing.T) { f(t, n, newBox(t, boxOptions{user: true}).in) })
}

// status gives a field of a process' /proc/self/status.
func status(t *testing.T, out, name string) string {
	t.Helper()
	for line := range strings.Lines(out) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("no field %s in status:\n%s", name, out)
	return ""
}

func TestStatusFields(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		const docker = 0xa80425fb // Docker's default capabilities
		for _, c := range []struct {
			name string
			set  func(*Request)
			want map[string]string
		}{
			{"plain", func(*Request) {}, map[string]string{
				"Uid": "0 0 0 0", "Gid": "0 0 0 0", "Groups": "", "Umask": "0022", "NoNewPrivs": "0", "Seccomp": "0",
				"SigBlk": "0000000000000000", "SigIgn": "0000000000000000", "SigPnd": "0000000000000000",
			}},
			{"user", func(r *Request) { r.UID, r.GID, r.Groups = 1000, 1001, []uint32{5, 7} }, map[string]string{
				"Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "5 7", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
			}},
			{"umask", func(r *Request) { r.Umask = ptr(uint32(0o077)) }, map[string]string{"Umask": "0077"}},
			{"no new privs", func(r *Request) { r.NoNewPrivs = true }, map[string]string{"NoNewPrivs": "1"}},
			{"capabilities", func(r *Request) {
				r.Capabilities = &Capabilities{Bounding: docker, Effective: docker, Permitted: docker}
			}, map[string]string{"CapBnd": "00000000a80425fb", "CapEff": "00000000a80425fb", "CapPrm": "00000000a80425fb", "CapInh": "0000000000000000", "CapAmb": "0000000000000000"}},
			{"ambient", func(r *Request) {
				r.UID = 1000
				r.Capabilities = &Capabilities{Bounding: 0x401, Effective: 0x400, Permitted: 0x400, Inheritable: 0x400, Ambient: 0x400}
			}, map[string]string{"CapBnd": "0000000000000401", "CapEff": "0000000000000400", "CapPrm": "0000000000000400", "CapInh": "0000000000000400", "CapAmb": "0000000000000400"}},
			{"no capabilities", func(r *Request) { r.Capabilities = &Capabilities{} }, map[string]string{
				"CapBnd": "0000000000000000", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
			}},
			{"affinity", func(r *Request) {
				r.Affinity = &unix.CPUSet{}
				r.Affinity.Set(runtime.NumCPU() - 1)
			}, map[string]string{"Cpus_allowed_list": fmt.Sprint(runtime.NumCPU() - 1)}},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := in("cat", "/proc/self/status")
				c.set(&r)
				out := output(t, n, r)
				for name, want := range c.want {
					if got := status(t, out, name); got != want {
						t.Errorf("%s = %q; want %q", name, got, want)
					}
				}
			})
		}
	})
}

func TestProcFields(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		for _, c := range []struct {
			name string
			args []string
			set  func(*Request)
			want string
		}{
			{"env", []string{"env"}, func(r *Request) { r.Env = []string{boxPath, "A=1", "B=x y"} }, "PATH=/bin\nA=1\nB=x y\n"},
			{"no env", []string{"/bin/env"}, func(r *Request) { r.Env = []string{} }, ""},
			{"root", []string{"/bin/busybox", "pwd"}, func(*Request) {}, "/\n"},
			{"cwd", []string{"/bin/busybox", "pwd"}, func(r *Request) { r.Cwd = "/tmp" }, "/tmp\n"},
			{"made cwd", []string{"/bin/busybox", "stat", "-c", "%n %a %u", "/tmp/a//b/c", "."}, func(r *Request) { r.Cwd = "/tmp/a//b/c" }, "/tmp/a//b/c 755 0\n. 755 0\n"},
			{"oom score", []string{"cat", "/proc/self/oom_score_adj"}, func(r *Request) { r.OOMScoreAdj = -321 }, "-321\n"},
			{"oom score default", []string{"cat", "/proc/self/oom_score_adj"}, func(*Request) {}, "0\n"},
			{"default rlimits", []string{"sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -l"}, func(*Request) {}, "1024\n524288\n8192\n"},
			{"rlimits", []string{"sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"}, func(r *Request) {
				r.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 99, 1000000}, {unix.RLIMIT_CORE, 0, 0}}
			}, "99\n1000000\n0\n"},
			{"few files", []string{"sh", "-c", "ulimit -Sn; ulimit -Hn"}, func(r *Request) { r.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 5, 7}} }, "5\n7\n"},
			{"nice", []string{"/bin/busybox", "awk", "{ print $19 }", "/proc/self/stat"}, func(r *Request) { r.Scheduler = &unix.SchedAttr{Size: unix.SizeofSchedAttr, Nice: -5} }, "-5\n"},
			{"io priority", []string{"/bin/busybox", "ionice"}, func(r *Request) { r.IOPriority = 2<<13 | 3 }, "best-effort: prio 3\n"},
			{"personality", []string{"/bin/busybox", "cat", "/proc/self/personality"}, func(r *Request) { r.Personality = ptr(uint32(0x0040000)) }, "00040000\n"},
			{"session", []string{"sh", "-c", "read pid comm state ppid pgrp session tty rest < /proc/self/stat; [ $pid = $pgrp ] && [ $pid = $session ] && echo $tty"}, func(*Request) {}, "0\n"},
			{"files", []string{"/bin/busybox", "sh", "-c", "cd /proc/self/fd; echo *"}, func(*Request) {}, "0 1 2 3\n"}, // 3 is the directory that * lists
			{"null", []string{"sh", "-c", "readlink /proc/self/fd/0; echo x > /dev/null; cat"}, func(*Request) {}, "/dev/null\n"},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := in(c.args...)
				c.set(&r)
				if got := output(t, n, r); got != c.want {
					t.Errorf("output = %q; want %q", got, c.want)
				}
			})
		}
	})
}

func TestNamespacesAndCgroup(t *testing.T) {
	n := startNursery(t, Config{})
	for _, o := range []boxOptions{{}, {user: true}, {hostPID: true}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			b := newBox(t, o)
			out := output(t, n, b.in("sh", "-c", "for i in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$i; done"))
			want := ""
			for _, kind := range strings.Fields("cgroup ipc mnt net pid time user uts") {
				link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b.pid, kind))
				if err != nil {
					t.Fatal(err)
				}
				want += link + "\n"
			}
			if out != want {
				t.Errorf("namespaces of the process = %q; want its container's %q", out, want)
			}
			req := b.in("sleep", "1000")
			c, err := n.Spawn(t.Context(), &req)
			if err != nil {
				t.Fatal(err)
			}
			procs, err := os.ReadFile(b.path + "/cgroup.procs")
			if err != nil || !strings.Contains(string(procs), fmt.Sprintln(c.PID)) {
				t.Errorf("cgroup.procs = %q, %v; want process %d in it", procs, err, c.PID)
			}
			unix.PidfdSendSignal(int(c.PIDFD.Fd()), unix.SIGKILL, nil, 0)
			if s := finish(t, c); s.Signal != unix.SIGKILL {
				t.Errorf("status = %v; want killed", s)
			}
		})
	}
	// Back outside after a container.
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, n, Request{Args: []string{"/bin/busybox", "readlink", "/proc/self/ns/pid"}}); got != own+"\n" {
		t.Errorf("pid namespace outside = %q; want %q", got, own)
	}
}

func TestLongRequest(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		for _, size := range []int{30_000, 34_000, 2_000_000} {
			r := in("sh", "-c", `n=0; for a in "$@"; do n=$((n + ${#a})); done; echo $#:$n`, "sh")
			for i := 0; i < size; i += 10_000 {
				r.Args = append(r.Args, strings.Repeat("x", 10_000))
			}
			want := fmt.Sprintf("%d:%d\n", len(r.Args)-4, 10_000*(len(r.Args)-4))
			r.Rlimits = []Rlimit{{unix.RLIMIT_STACK, 32 << 20, unix.RLIM_INFINITY}}
			if got := output(t, n, r); got != want {
				t.Errorf("%d bytes: output = %q; want %q", size, got, want)
			}
		}
	})
}

// The keyring is the named one, shared by those who name it.
func TestKeyring(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		r := in("cat", "/proc/keys")
		r.Keyring = "_ses.test"
		if out := output(t, n, r); !strings.Contains(out, "_ses.test") {
			t.Errorf("keys = %q; want a keyring _ses.test among them", out)
		}
	})
}

func TestAppArmor(t *testing.T) {
	needGuest(t)
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || on[0] != 'Y' {
		t.Skip("needs a kernel with AppArmor enabled")
	}
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		r := in("cat", "/proc/self/attr/apparmor/current")
		r.AppArmor = "unconfined"
		if out := output(t, n, r); out != "unconfined\n" {
			t.Errorf("profile = %q; want unconfined", out)
		}
		r.AppArmor = "no-such-profile"
		if e := spawnError(t, n, r); e.Step != StepExec && e.Step != StepLabel {
			t.Errorf("unknown profile: %v; want an error of the label or of exec", e)
		}
	})
}
