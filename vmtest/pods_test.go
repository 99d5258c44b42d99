package vmtest_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// newPod makes a pod, which ends with the test.
func (g *guest) newPod(t *testing.T, cfg hostclient.PodConfig) *hostclient.Pod {
	t.Helper()
	pod, err := g.Client.NewPod(deadline(t), cfg)
	if err != nil {
		t.Fatalf("NewPod(…) = %v; want no error", err)
	}
	t.Cleanup(func() {
		if err := pod.Delete(deadline(t)); err != nil {
			t.Errorf("Delete() of the pod at the end = %v; want no error", err)
		}
	})
	return pod
}

// startIn runs the first process of a container of a pod.
func startIn(t *testing.T, pod *hostclient.Pod, spec *specs.Spec) *hostclient.Cmd {
	t.Helper()
	cmd := pod.NewContainer("", spec).Init(deadline(t))
	if err := cmd.Start(); err != nil {
		t.Fatalf("Start() in a pod = %v; want no error", err)
	}
	return cmd
}

// pausePid gives the pid of a pod's pause process.
func (g *guest) pausePid(t *testing.T, pod *hostclient.Pod) int {
	t.Helper()
	info, ok := g.info(t, pod.ID())
	if !ok || info.Pid < 2 {
		t.Fatalf("the pod is listed as %+v, %v; want a process", info, ok)
	}
	return info.Pid
}

// testPod has containers come and go in a pod of the usual kind, which the end of none of them ends, and which ends all of them.
func testPod(t *testing.T, g *guest) {
	ctx := deadline(t)
	pod := g.newPod(t, hostclient.PodConfig{Hostname: "shop"})
	first := startIn(t, pod, isolated("echo of the first >/dev/shm/first; hostname; "+forever))
	shared := same(g.namespacesOf(t, g.pausePid(t, pod)), g.namespacesOf(t, first.Process.Pid()))
	if want := []specs.LinuxNamespaceType{specs.IPCNamespace, specs.NetworkNamespace, specs.UserNamespace, specs.UTSNamespace}; !slices.Equal(shared, want) {
		t.Errorf("shared namespaces: %q; want %q", shared, want)
	}
	if err := first.Process.KillAll(ctx, hostclient.SIGKILL); err != nil {
		t.Errorf("KillAll() = %v; want no error", err)
	}
	if code := hostclient.ShellCode(first.Wait()); code != 137 {
		t.Errorf("the first container ended with %d; want 137", code)
	}
	out, err := pod.NewContainer("", isolated("hostname; cat /dev/shm/first")).Init(ctx).Output()
	if err != nil || string(out) != "shop\nof the first\n" {
		t.Errorf("the second container says %q, %v; want the pod's host name, and what the first left in its shared memory", out, err)
	}
	last := startIn(t, pod, isolated(forever))
	pid := g.pausePid(t, pod)
	if root := g.root(t, fmt.Sprintf("ls /proc/%[1]d/root; touch /proc/%[1]d/root/x 2>&1 || true; grep ' / ' /proc/%[1]d/mounts", pid)); !strings.HasPrefix(root, "dev\nproc\ntouch: ") || !strings.Contains(root, "ro,") {
		t.Errorf("the root of the pause process: %q; want an empty one that is read-only", root)
	}
	memory := g.root(t, fmt.Sprintf("grep -E '^(Rss|Pss|Private_Dirty)' /proc/%d/smaps_rollup", pid))
	t.Logf("memory of the pause process: %s", strings.Join(strings.Fields(memory), " "))
	if err := pod.Delete(ctx); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
	if code := hostclient.ShellCode(last.Wait()); code != 137 {
		t.Errorf("the last container ended with %d; want 137", code)
	}
	for _, id := range []string{pod.ID(), last.ID} {
		if info, ok := g.info(t, id); ok {
			t.Errorf("after Delete(): %+v; want it gone", info)
		}
	}
	if roots := g.root(t, "ls /run/bellhop/roots"); strings.Contains(roots, pod.ID()) {
		t.Errorf("empty roots: %q; want none of the deleted pod", roots)
	}
}

// testPodReaps has a container of a pod with one PID namespace leave a thousand processes behind: its pause process reaps them.
func testPodReaps(t *testing.T, g *guest) {
	pod := g.newPod(t, hostclient.PodConfig{Share: podTypes})
	var out output
	cmd := pod.NewContainer("", isolated(orphans(1000)+"; echo done; exec sleep 100000")).Init(deadline(t))
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("Start() in a pod = %v; want no error", err)
	}
	out.await(t, "done\n")
	const script = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l; grep -h ^Name: /proc/1/status"
	process := &specs.Process{Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}}
	eventually(t, "the end of all zombies", func() bool {
		_, text := g.run(t, hostclient.ProcessConfig{Container: cmd.Process.ID(), Process: process})
		return text == "0\nName:\tpause\n"
	})
}

// testPodUsers has a pod with users of its own.
func testPodUsers(t *testing.T, g *guest) {
	pod := g.newPod(t, hostclient.PodConfig{
		Share: append(podTypes, specs.UserNamespace),
		Config: func(c *hostclient.ProcessConfig) {
			mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
			c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings = mapping, mapping
		},
	})
	out, err := pod.NewContainer("", containerSpec("id -u; tr -s ' ' </proc/self/uid_map; echo err >&2")).Init(deadline(t)).Output()
	if err != nil || string(out) != "0\n 0 100000 65536\n" {
		t.Errorf("Output() = %q, %v; want root of the pod", out, err)
	}
}

// testPauseSignals asks a pause process to end, after what it must ignore.
func testPauseSignals(t *testing.T, g *guest) {
	ctx := deadline(t)
	spec := &specs.Spec{
		Version: specs.Version,
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}},
		Process: &specs.Process{},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
	for _, end := range []hostclient.Signal{hostclient.SIGTERM, hostclient.SIGINT} {
		p := g.start(t, hostclient.ProcessConfig{Spec: spec, BuiltIn: hostclient.BuiltInPause})
		for _, sig := range []hostclient.Signal{hostclient.SIGHUP, hostclient.SIGUSR1, hostclient.SIGQUIT, end} {
			if err := p.Kill(ctx, sig); err != nil {
				t.Errorf("Kill(%v) = %v; want no error", sig, err)
			}
		}
		if status, err := p.Wait(ctx); err != nil || !status.Success() {
			t.Errorf("Wait() after %v = %v, %v; want success", end, status, err)
		}
	}
}

// TestManyPods has many pods in one machine, made side by side. Each works by itself.
func TestManyPods(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	const pods, each, beside = 20, 3, 4
	g := &guest{VM: vmtest.Start(t, vmtest.Busybox(), vmtest.Memory(1<<30))}
	begin := time.Now()
	all := make([]*hostclient.Pod, pods)
	inParallel(pods, beside, func(i int) {
		pod, err := g.Client.NewPod(deadline(t), hostclient.PodConfig{ID: fmt.Sprint("pod", i), Hostname: fmt.Sprint("pod", i), Share: podTypes})
		if err != nil {
			t.Errorf("NewPod(…) = %v; want no error", err)
			return
		}
		all[i] = pod
		for range each {
			if err := pod.NewContainer("", containerSpec(forever)).Init(deadline(t)).Start(); err != nil {
				t.Errorf("Start() in a pod = %v; want no error", err)
				return
			}
		}
		out, err := pod.NewContainer("", containerSpec("hostname; ps -o comm | grep -c sleep")).Init(deadline(t)).Output()
		if want := fmt.Sprintf("pod%d\n%d\n", i, each); err != nil || string(out) != want {
			t.Errorf("one more container says %q, %v; want %q", out, err, want)
		}
	})
	made := time.Now()
	t.Logf("%d pods of %d containers, beside their pause processes, in %v", pods, each, made.Sub(begin))
	if !t.Failed() {
		g.logPauses(t, all)
	}
	begin = time.Now()
	inParallel(pods, beside, func(i int) {
		if all[i] == nil {
			return
		}
		if err := all[i].Delete(deadline(t)); err != nil {
			t.Errorf("Delete() = %v; want no error", err)
		}
	})
	t.Logf("deleted in %v", time.Since(begin))
	if list, err := g.Client.List(deadline(t)); err != nil || len(list) != 0 {
		t.Errorf("List() = %+v, %v; want nothing left", list, err)
	}
	if left := g.root(t, "ls /run/bellhop/roots; ls -d /sys/fs/cgroup/bellhop/pod* 2>/dev/null || true"); left != "" {
		t.Errorf("roots and cgroups are left: %q", left)
	}
}

// inParallel calls f for 0 to n-1, so many at a time.
func inParallel(n, beside int, f func(int)) {
	var group sync.WaitGroup
	next := make(chan int)
	for range beside {
		group.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
}

// logPauses adds up the memory of the pause processes.
func (g *guest) logPauses(t *testing.T, pods []*hostclient.Pod) {
	t.Helper()
	total := 0
	for _, field := range strings.Fields(g.root(t, "for d in /proc/[0-9]*; do if grep -qsx pause $d/comm; then grep ^Pss: $d/smaps_rollup; fi; done | tr -cd '0-9\\n'")) {
		kb, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		total += kb
	}
	t.Logf("PSS of a pause process: %d KB", total/len(pods))
}
