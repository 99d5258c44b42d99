package vmtest_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// killed is how the probe reports a child that the filter killed.
const killed = -int(syscall.SIGSYS)

// denied are the probes that the default filter ends, and how. Without it none ends so.
func denied() map[string]int {
	out := map[string]int{"clone3": int(syscall.ENOSYS), "new-call": int(syscall.ENOSYS), "vsock-i386": killed, "vsock-socketcall": killed}
	for _, name := range []string{
		"vsock", "vsock-high", "mount", "umount", "fsopen", "pivot_root", "unshare-user", "unshare-net", "clone-user", "keyctl", "add_key", "bpf", "perf_event_open", "userfaultfd",
		"io_uring_setup", "open_by_handle_at", "init_module", "kexec_load", "swapon", "settimeofday", "personality-no-randomize",
	} {
		out[name] = int(syscall.EPERM)
	}
	return out
}

var allowed = []string{"unix", "inet", "inet6", "netlink", "packet", "clone", "ptrace", "personality"}

// testDefaultSeccomp makes system calls under the default filter, as a container's first process and as an exec. So that it is the filter that denies them, the processes have every capability.
func testDefaultSeccomp(t *testing.T, g *guest) {
	uploadProbe(t, g)
	names := slices.Concat(allowed, slices.Sorted(maps.Keys(denied())))
	script := "/tmp/probe " + strings.Join(names, " ")

	unfiltered := func(s *specs.Spec) { everyCapability(s); s.Linux.Seccomp = nil }
	for name, errno := range probed(t, g.output(t, script, unfiltered)) {
		if want, ok := denied()[name]; ok && errno == want && name != "new-call" {
			t.Errorf("without a filter %s ends with %d as with it: the probe shows nothing", name, errno)
		}
	}
	spec := containerSpec(script + "; sleep 1000")
	everyCapability(spec)
	out := new(output)
	p := g.start(t, hostclient.ProcessConfig{Spec: spec, Stdout: out})
	out.await(t, names[len(names)-1]+" ")
	checkProbes(t, "the first process", out.String())
	again, err := g.Client.Container(p.ID()).Command(deadline(t), "/bin/sh", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	checkProbes(t, "an exec", string(again))
}

func checkProbes(t *testing.T, who, out string) {
	t.Helper()
	got := probed(t, out)
	for name, want := range denied() {
		if got[name] != want {
			t.Errorf("%s: %s ends with %d; want %d", who, name, got[name], want)
		}
	}
	for _, name := range allowed {
		if got[name] != 0 {
			t.Errorf("%s: %s ends with %d; want it let through", who, name, got[name])
		}
	}
}

// probed reads the probe's output.
func probed(t *testing.T, out string) map[string]int {
	t.Helper()
	results := make(map[string]int)
	for line := range strings.Lines(out) {
		var name string
		var errno int
		if _, err := fmt.Sscan(line, &name, &errno); err != nil {
			t.Fatalf("the probe says %q: %v", line, err)
		}
		results[name] = errno
	}
	return results
}

func everyCapability(s *specs.Spec) {
	var all []string
	for _, c := range capability.ListKnown() {
		all = append(all, "CAP_"+strings.ToUpper(c.String()))
	}
	all = slices.DeleteFunc(all, func(name string) bool { return name == "CAP_CHECKPOINT_RESTORE" })
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
}

// uploadProbe compiles the probe and puts it into the root of containers.
func uploadProbe(t *testing.T, g *guest) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	// Without PIE its data lies where 32-bit calls can point at.
	cmd := exec.Command("gcc", "-static", "-no-pie", "-Os", "-s", "-Wall", "-Werror", "-o", path, "testdata/probe.c")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	g.Upload(t, path, vmtest.Rootfs+"/tmp/probe")
}

// testDefaultPrograms runs ordinary programs under the default spec.
func testDefaultPrograms(t *testing.T, g *guest) {
	const script = `
		set -e
		cd /tmp; mkdir d; echo x >d/f; cp d/f d/g; ln -s f d/l; mv d/g d/h; chmod 600 d/h; chown 5:6 d/h; tar c d | tar t | wc -l; rm -r d
		mkfifo p; (echo through >p &); cat p; rm p; mknod n c 1 3; rm n
		(sleep 100 & kill $!; wait $!) || echo killed
		ping -c1 -W5 127.0.0.1 | grep -o '1 packets received'
		(nc -l -p 7 -e echo served &); while ! nc 127.0.0.1 7 </dev/null; do sleep 0.1; done
		timeout 5 su -s /bin/id nobody | cut -d' ' -f1; chroot / true; date >/dev/null; dd if=/dev/urandom bs=1k count=1 2>/dev/null | wc -c
	`
	const want = "4\nthrough\nkilled\n1 packets received\nserved\nuid=65534(nobody)\n1024"
	if got := g.output(t, script); got != want {
		t.Errorf("ordinary programs say %q; want %q", got, want)
	}
}
