package vmtest_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// TestPods has containers that share namespaces and containers with a built-in first process, in one machine.
func TestPods(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	g := newGuest(t, vmtest.Modules("virtio_net", "veth"), withCard())
	t.Run("Independent", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			test func(*testing.T, *guest)
		}{
			{"ShareAll", testShareAll},
			{"ShareByChoice", testShareByChoice},
			{"ShareUsers", testShareUsers},
			{"ShareWithoutOwn", testShareWithoutOwn},
			{"OwnerEnds", testOwnerEnds},
			{"ShareShm", testShareShm},
			{"ShareShmReadOnly", testShareShmReadOnly},
			{"ShareShmUsers", testShareShmUsers},
			{"ShareShmHostile", testShareShmHostile},
			{"ShareErrors", testShareErrors},
			{"InitStatus", testInitStatus},
			{"InitSignals", testInitSignals},
			{"InitReaps", testInitReaps},
			{"InitTerminal", testInitTerminal},
			{"InitErrors", testInitErrors},
			{"InitUser", testInitUser},
			{"InitBinary", testInitBinary},
			{"Pod", testPod},
			{"PodReaps", testPodReaps},
			{"PodUsers", testPodUsers},
			{"PauseSignals", testPauseSignals},
			{"Veth", testVeth},
			{"Card", testCard},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.test(t, g)
			})
		}
	})
	t.Run("NothingIsLeft", func(t *testing.T) { testNothingIsLeft(t, g) })
}

// namespaceFiles are the names of the types in /proc/PID/ns.
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid",
	specs.UserNamespace: "user", specs.TimeNamespace: "time", specs.MountNamespace: "mnt", specs.CgroupNamespace: "cgroup",
}

// podTypes are what containers of a pod usually share.
var podTypes = []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace}

// namespacesOf gives the namespaces of a process of the guest.
func (g *guest) namespacesOf(t *testing.T, pid int) map[specs.LinuxNamespaceType]string {
	t.Helper()
	return parseNamespaces(g.root(t, fmt.Sprintf("cd /proc/%d/ns && for n in *; do echo $n $(readlink $n); done", pid)))
}

func parseNamespaces(text string) map[specs.LinuxNamespaceType]string {
	out := make(map[specs.LinuxNamespaceType]string)
	for line := range strings.Lines(text) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		for t, file := range namespaceFiles {
			if file == name {
				out[t] = id
			}
		}
	}
	return out
}

// same lists the types whose namespaces are the same in both.
func same(a, b map[specs.LinuxNamespaceType]string) []specs.LinuxNamespaceType {
	var out []specs.LinuxNamespaceType
	for _, t := range slices.Sorted(maps.Keys(a)) {
		if a[t] != "" && a[t] == b[t] {
			out = append(out, t)
		}
	}
	return out
}

// isolated is the spec of a container with every namespace of its own but that of users.
func isolated(script string) *specs.Spec {
	spec := containerSpec(script)
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	return spec
}

// withUsers gives the container of a spec users of its own.
func withUsers(spec *specs.Spec) *specs.Spec {
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = spec.Linux.UIDMappings
	return spec
}

// withAdmin gives the container of a spec power over what its user namespace owns.
func withAdmin(spec *specs.Spec) *specs.Spec {
	for _, set := range []*[]string{&spec.Process.Capabilities.Bounding, &spec.Process.Capabilities.Permitted, &spec.Process.Capabilities.Effective} {
		*set = append(*set, "CAP_SYS_ADMIN")
	}
	spec.Linux.Seccomp = hostclient.DefaultSeccomp(spec.Process.Capabilities.Bounding)
	return spec
}

// sharing describes a container that has the types together with another.
func sharing(spec *specs.Spec, with *hostclient.Process, types ...specs.LinuxNamespaceType) hostclient.ProcessConfig {
	cfg := hostclient.ProcessConfig{Spec: spec}
	for _, t := range types {
		cfg.Share = append(cfg.Share, hostclient.Share{Type: t, Container: with.ID()})
	}
	return cfg
}

// execIn runs a script in a container and gives its output.
func (g *guest) execIn(t *testing.T, p *hostclient.Process, script string) string {
	t.Helper()
	status, out := g.run(t, hostclient.ProcessConfig{Container: p.ID(), Process: g.script(further, script).Process})
	if !status.Success() {
		t.Errorf("%s: %v, output %q; want success", script, status, out)
	}
	return out
}

const forever = "exec sleep 100000"

// testShareAll has three containers that share what containers of a pod do: they reach each other over the loopback interface, see each other's processes and have one host name, and yet
// each has its root and its cgroup.
func testShareAll(t *testing.T, g *guest) {
	ctx := deadline(t)
	spec := isolated(forever)
	spec.Hostname = "shop"
	owner := g.start(t, hostclient.ProcessConfig{Spec: spec})
	out := new(output)
	cfg := sharing(isolated("echo up; echo hello | nc -l -p 80; "+forever), owner, podTypes...)
	cfg.Stdout = out
	server := g.start(t, cfg)
	out.await(t, "up\n")
	client := g.start(t, sharing(isolated(forever), owner, podTypes...))
	if got := g.execIn(t, client, "until nc 127.0.0.1 80; do sleep 0.1; done"); got != "hello\n" {
		t.Errorf("over the shared loopback interface: %q; want hello", got)
	}
	if got := g.execIn(t, client, "hostname; ps -o comm | grep -c sleep"); got != "shop\n3\n" {
		t.Errorf("host name, processes = %q; want those of the pod", got)
	}

	all := []*hostclient.Process{owner, server, client}
	for _, p := range all[1:] {
		if got := same(g.namespacesOf(t, owner.Pid()), g.namespacesOf(t, p.Pid())); !slices.Equal(got, slices.Sorted(slices.Values(append(podTypes, specs.UserNamespace)))) {
			t.Errorf("shared namespaces: %q; want network, IPC, UTS and PID, and the guest's users", got)
		}
		if a, b := cgroupOf(t, g, owner), cgroupOf(t, g, p); a == b {
			t.Errorf("cgroup %s is that of two containers", a)
		}
	}
	// What is killed in one container is nothing to the others.
	if err := server.KillAll(ctx, hostclient.SIGKILL); err != nil {
		t.Errorf("KillAll() = %v; want no error", err)
	}
	cgroup := cgroupOf(t, g, client)
	if _, err := client.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
	if out := g.root(t, "ls -d "+cgroup+" 2>&1 || true"); !strings.Contains(out, "No such file") {
		t.Errorf("the cgroup of the deleted container: %s; want it removed", out)
	}
	if got := g.execIn(t, owner, "ps -o comm | grep -c sleep"); got != "1\n" {
		t.Errorf("%q processes of containers are left; want the owner's", got)
	}
	if status, err := server.Wait(ctx); err != nil || status.Signal != hostclient.SIGKILL {
		t.Errorf("Wait() = %v, %v; want SIGKILL", status, err)
	}
}

// testShareByChoice shares one type at a time, with the first process of a container and with its execs.
func testShareByChoice(t *testing.T, g *guest) {
	owner := g.start(t, hostclient.ProcessConfig{Spec: isolated(forever)})
	owned := g.namespacesOf(t, owner.Pid())
	for _, chosen := range append(podTypes, specs.TimeNamespace) {
		p := g.start(t, sharing(isolated(forever), owner, chosen))
		own := g.namespacesOf(t, p.Pid())
		if got := same(owned, own); len(got) != 2 || !slices.Contains(got, chosen) || !slices.Contains(got, specs.UserNamespace) {
			t.Errorf("%s: the shared namespaces are %q; want this one, and the guest's users", chosen, got)
		}
		exec := parseNamespaces(g.execIn(t, p, "cd /proc/self/ns && for n in *; do echo $n $(readlink $n); done"))
		if got := same(own, exec); len(got) != len(namespaceFiles) {
			t.Errorf("%s: an exec has only %q of its container's namespaces", chosen, got)
		}
	}
}

// testShareUsers has a container with users of its own, whose namespaces go only to one that has the same users.
func testShareUsers(t *testing.T, g *guest) {
	owner := g.start(t, hostclient.ProcessConfig{Spec: withUsers(isolated(forever))})
	for what, spec := range map[string]*specs.Spec{"the guest's users": isolated("true"), "other users": withUsers(isolated("true"))} {
		err := g.process(t, sharing(spec, owner, specs.NetworkNamespace)).Launch(deadline(t))
		if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "user namespace") {
			t.Errorf("%s: Launch() = %v; want errdefs.ErrInvalidArgument that names the user namespace", what, err)
		}
	}
	types := append(podTypes, specs.UserNamespace)
	p := g.start(t, sharing(withAdmin(withUsers(isolated(forever))), owner, types...))
	if got := same(g.namespacesOf(t, owner.Pid()), g.namespacesOf(t, p.Pid())); !slices.Equal(got, slices.Sorted(slices.Values(types))) {
		t.Errorf("shared namespaces: %q; want %q", got, types)
	}
	if got := g.execIn(t, p, "id -u; tr -s ' ' </proc/self/uid_map; hostname inside; hostname"); got != "0\n 0 100000 65536\ninside\n" {
		t.Errorf("an exec = %q; want root of the pod, with power over its host name", got)
	}
}

// testShareWithoutOwn shares with a container that uses the guest's own network.
func testShareWithoutOwn(t *testing.T, g *guest) {
	spec := isolated(forever)
	hostclient.ShareNetwork(spec)
	owner := g.start(t, hostclient.ProcessConfig{Spec: spec})
	p := g.start(t, sharing(isolated(forever), owner, specs.NetworkNamespace, specs.UserNamespace))
	if own, agent := g.namespacesOf(t, p.Pid()), g.namespacesOf(t, g.agentPid(t)); own[specs.NetworkNamespace] != agent[specs.NetworkNamespace] {
		t.Errorf("network %s; want the guest's, %s", own[specs.NetworkNamespace], agent[specs.NetworkNamespace])
	}
}

// testOwnerEnds ends the container whose namespaces others have: a network lives on with the last of them, a PID namespace does not, and nobody new joins either.
func testOwnerEnds(t *testing.T, g *guest) {
	ctx := deadline(t)
	owner := g.start(t, hostclient.ProcessConfig{Spec: isolated(forever)})
	network := g.start(t, sharing(isolated(forever), owner, specs.NetworkNamespace))
	pids := g.start(t, sharing(isolated(forever), owner, specs.PIDNamespace))
	exec := g.start(t, hostclient.ProcessConfig{Container: pids.ID(), Process: g.script(further, forever).Process})
	created := g.process(t, sharing(isolated(forever), owner, specs.PIDNamespace))
	if err := created.Create(ctx); err != nil {
		t.Fatalf("Create() = %v; want no error", err)
	}
	if err := owner.Kill(ctx, hostclient.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*hostclient.Process{owner, pids, exec, created} {
		if status, err := p.WaitExit(ctx); err != nil || status.Signal != hostclient.SIGKILL {
			t.Errorf("WaitExit() = %v, %v; want SIGKILL", status, err)
		}
	}
	if got := g.execIn(t, network, "echo alive"); got != "alive\n" {
		t.Errorf("exec = %q; want it to run", got)
	}
	for _, deleted := range []bool{false, true} {
		var want error = errdefs.ErrFailedPrecondition
		if deleted {
			want = errdefs.ErrNotFound
			if err := owner.Delete(ctx); err != nil {
				t.Errorf("Delete() = %v; want no error", err)
			}
		}
		for _, chosen := range podTypes {
			if err := g.process(t, sharing(isolated(forever), owner, chosen)).Launch(ctx); !errors.Is(err, want) {
				t.Errorf("%s, owner deleted %v: Launch() = %v; want %v", chosen, deleted, err, want)
			}
		}
	}
}

// testShareErrors asks for what cannot be shared.
func testShareErrors(t *testing.T, g *guest) {
	owner := g.start(t, hostclient.ProcessConfig{Spec: isolated(forever)})
	exec := g.start(t, hostclient.ProcessConfig{Container: owner.ID(), Process: g.script(further, forever).Process})
	for _, tt := range []struct {
		name  string
		share []hostclient.Share
		want  error
		text  string
	}{
		{"mounts", []hostclient.Share{{Type: specs.MountNamespace, Container: owner.ID()}}, errdefs.ErrInvalidArgument, "mount namespace"},
		{"cgroups", []hostclient.Share{{Type: specs.CgroupNamespace, Container: owner.ID()}}, errdefs.ErrInvalidArgument, "share.type"},
		{"nonsense", []hostclient.Share{{Type: "colour", Container: owner.ID()}}, errdefs.ErrInvalidArgument, "colour"},
		{"twice", slices.Repeat([]hostclient.Share{{Type: specs.IPCNamespace, Container: owner.ID()}}, 2), errdefs.ErrInvalidArgument, "twice"},
		{"nobody", []hostclient.Share{{Type: specs.IPCNamespace, Container: "nobody"}}, errdefs.ErrNotFound, "nobody"},
		{"an exec", []hostclient.Share{{Type: specs.IPCNamespace, Container: exec.ID()}}, errdefs.ErrInvalidArgument, "not a container"},
	} {
		p := g.process(t, hostclient.ProcessConfig{Spec: isolated("true"), Share: tt.share})
		if err := p.Launch(deadline(t)); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: Launch() = %v; want %v with %q", tt.name, err, tt.want, tt.text)
		}
	}
}
