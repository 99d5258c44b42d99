// Command guest is the agent of boot's tests: it boots the VM that it is in,
// looks at the result, and reports on the console.
package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/boot"
	"github.com/bellhop-vm/bellhop/agent/pid1"
)

func main() {
	start := boot.Now()
	parent := pid1.Find()
	var warnings bytes.Buffer
	level := new(slog.LevelVar)
	result, err := boot.Guest(parent, start, slog.New(slog.NewTextHandler(&warnings, nil)), level)
	if err != nil {
		fmt.Println("FAIL boot:", err)
		os.Exit(1)
	}
	<-result.Modules
	for line := range strings.Lines(warnings.String()) {
		_, line, _ = strings.Cut(line, " ") // the time
		fmt.Print("warning ", line)
	}
	failed := 0
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"result", func() error { return checkResult(result, level.Level()) }},
		{"mounts", checkMounts},
		{"links", checkLinks},
		{"cgroups", func() error { return checkCgroups(result.CgroupRoot) }},
		{"agent", checkAgent},
		{"network", checkNetwork},
		{"clock", checkClock},
		{"twice", func() error { return bootTwice(parent) }},
	} {
		if err := c.run(); err != nil {
			fmt.Printf("FAIL %s: %v\n", c.name, err)
			failed++
			continue
		}
		fmt.Println("ok", c.name)
	}
	os.Exit(failed)
}

// checkResult compares with what TestInVM puts on the kernel command line.
func checkResult(r *boot.Result, level slog.Level) error {
	if !r.PID1 || r.Port != 2048 || !slices.Equal(r.AllowCIDs, []uint32{2, 5}) || level != slog.LevelDebug {
		return fmt.Errorf("result = %+v, log level %v; want what the kernel command line says", r, level)
	}
	if r.Instance == [16]byte{} {
		return fmt.Errorf("the instance is zero")
	}
	if t := r.Timeline; t.Init <= 0 || t.Main <= t.Init || t.Booted <= t.Main {
		return fmt.Errorf("timeline = %+v; want it in this order", t)
	}
	host, err := os.Hostname()
	if err != nil || host != "desk" {
		return fmt.Errorf("host name = %q, %v; want desk", host, err)
	}
	return nil
}

// checkMounts wants each file system once, with these options at least.
func checkMounts() error {
	want := map[string]string{
		"/proc":                "proc nosuid nodev noexec",
		"/sys":                 "sysfs nosuid nodev noexec",
		"/dev":                 "devtmpfs nosuid",
		"/dev/pts":             "devpts nosuid noexec",
		"/dev/shm":             "tmpfs nosuid nodev",
		"/dev/mqueue":          "mqueue nosuid nodev noexec",
		"/run":                 "tmpfs nosuid nodev",
		"/tmp":                 "tmpfs nosuid nodev",
		"/sys/fs/cgroup":       "cgroup2 nosuid nodev noexec",
		"/sys/fs/bpf":          "bpf nosuid nodev noexec",
		"/sys/kernel/security": "securityfs nosuid nodev noexec",
		"/sys/kernel/tracing":  "tracefs nosuid nodev noexec",
	}
	got, err := mountsByTarget()
	if err != nil {
		return err
	}
	for target, options := range want {
		all := got[target]
		if len(all) != 1 {
			return fmt.Errorf("%d mounts on %s; want 1", len(all), target)
		}
		for _, option := range strings.Fields(options) {
			if !slices.Contains(all[0], option) {
				return fmt.Errorf("mount on %s = %q; want %s", target, all[0], option)
			}
		}
	}
	if cgroup := got["/sys/fs/cgroup"][0]; slices.Contains(cgroup, "nsdelegate") {
		return fmt.Errorf("cgroup2 is mounted with nsdelegate")
	}
	for path, want := range map[string]os.FileMode{
		"/tmp": os.ModeDir | os.ModeSticky | 0o777, "/dev/shm": os.ModeDir | os.ModeSticky | 0o777, "/run": os.ModeDir | 0o755, "/": os.ModeDir | 0o755,
	} {
		if st, err := os.Stat(path); err != nil || st.Mode() != want {
			return fmt.Errorf("mode of %s = %v, %v; want %v", path, st.Mode(), err, want)
		}
	}
	return nil
}

// mountsByTarget has for each target the type and options of what is mounted there.
func mountsByTarget() (map[string][][]string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	mounts := make(map[string][][]string)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		mounts[f[1]] = append(mounts[f[1]], append([]string{f[2]}, strings.Split(f[3], ",")...))
	}
	return mounts, nil
}

func checkLinks() error {
	for path, want := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if got, err := os.Readlink(path); got != want {
			return fmt.Errorf("link %s = %q, %v; want %q", path, got, err, want)
		}
	}
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	return ptmx.Close()
}

func checkCgroups(root string) error {
	if root != "/bellhop" {
		return fmt.Errorf("root of containers = %q; want /bellhop", root)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || string(own) != "0::/bellhop-agent\n" {
		return fmt.Errorf("the agent's cgroup = %q, %v; want 0::/bellhop-agent", own, err)
	}
	b, err := os.ReadFile("/sys/fs/cgroup/bellhop/cgroup.subtree_control")
	if err != nil {
		return err
	}
	for _, want := range []string{"cpu", "memory", "pids", "io", "cpuset"} {
		if !slices.Contains(strings.Fields(string(b)), want) {
			return fmt.Errorf("controllers of containers = %q; want %s", b, want)
		}
	}
	return nil
}

func checkAgent() error {
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || string(score) != "-999\n" {
		return fmt.Errorf("OOM score = %q, %v; want -999", score, err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur != 1<<20 {
		return fmt.Errorf("RLIMIT_NOFILE = %+v, %v; want %d", files, err, 1<<20)
	}
	// The module list of the test has one that is not there before these.
	modules, err := os.ReadFile("/proc/modules")
	if err != nil || !bytes.Contains(modules, []byte("vmw_vsock_virtio_transport ")) {
		return fmt.Errorf("modules = %q, %v; want vmw_vsock_virtio_transport", modules, err)
	}
	return nil
}

func checkNetwork() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// checkClock wants the time that TestInVM gives; the machine's RTC says 1999.
func checkClock() error {
	if since := time.Since(time.Unix(1800000000, 0)); since < 0 || since > time.Hour {
		return fmt.Errorf("it is %v; want 1800000000 and a little", time.Now())
	}
	return nil
}

// bootTwice checks that a boot over one that has been done adds nothing and
// fails nowhere.
func bootTwice(parent *pid1.Parent) error {
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var warnings bytes.Buffer
	again, err := boot.Guest(parent, boot.Now(), slog.New(slog.NewTextHandler(&warnings, nil)), new(slog.LevelVar))
	if err != nil {
		return err
	}
	<-again.Modules
	for line := range strings.Lines(warnings.String()) {
		if !strings.Contains(line, "bellhop.nonsense") && !strings.Contains(line, "/not/there.ko") {
			return fmt.Errorf("warning: %s", line)
		}
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !bytes.Equal(before, after) {
		return fmt.Errorf("mounts = %s, %v; want as before: %s", after, err, before)
	}
	return checkCgroups("/bellhop")
}
