package vmtest_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

func namespaceCases() []specCase {
	return []specCase{
		{"UserNamespace", ownUsers, `tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; id -u; touch /tmp/mine; rm /tmp/mine`, " 0 100000 65536\n 0 200000 65536\n0"},
		{"DevicesOfUserNamespace", func(s *specs.Spec) {
			ownUsers(s)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}}
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
				Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "rw",
			})
		}, `ls -ln /dev/kmsg | tr -s ' ' | cut -d' ' -f3-6; echo x >/dev/null && echo fine`, "65534 65534 1, 11\nfine"},
	}
}

// ownUsers gives the container a user namespace.
func ownUsers(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
}

func withoutNamespace(s *specs.Spec, t specs.LinuxNamespaceType) []specs.LinuxNamespace {
	return slices.DeleteFunc(slices.Clone(s.Linux.Namespaces), func(ns specs.LinuxNamespace) bool { return ns.Type == t })
}

// join puts the namespace of a file in the place of the container's own.
func join(s *specs.Spec, t specs.LinuxNamespaceType, path string) {
	i := slices.IndexFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
	if i < 0 {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
		return
	}
	s.Linux.Namespaces[i].Path = path
}

// procNames are the names of namespaces in /proc/PID/ns.
var procNames = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.MountNamespace: "mnt", specs.IPCNamespace: "ipc",
	specs.UTSNamespace: "uts", specs.UserNamespace: "user", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time",
}

const listNamespaces = `cd /proc/self/ns; for n in pid net mnt ipc uts user cgroup time; do echo $n $(readlink $n); done`

// testNewNamespaces compares a container's namespaces with the guest's: those that the spec names are new, the others shared.
func testNewNamespaces(t *testing.T, g *guest) {
	ours := strings.Split(g.root(t, listNamespaces), "\n")
	all := func(s *specs.Spec) {
		ownUsers(s)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	}
	for _, name := range strings.Split(g.output(t, listNamespaces, all), "\n") {
		if slices.Contains(ours, name) {
			t.Errorf("%s is the guest's; want a new namespace", name)
		}
	}
	shared := func(s *specs.Spec) {
		s.Hostname = ""
		s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	}
	for _, name := range strings.Split(g.output(t, listNamespaces, shared), "\n") {
		if !slices.Contains(ours, name) && !strings.HasPrefix(name, "mnt ") {
			t.Errorf("%s is not the guest's; want it shared", name)
		}
	}
}

// testJoinedNamespaces makes a container in the namespaces of another, by path.
func testJoinedNamespaces(t *testing.T, g *guest) {
	spec := containerSpec("sleep 1000")
	ownUsers(spec)
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	first := g.start(t, hostclient.ProcessConfig{Spec: spec})
	theirs := strings.Split(g.root(t, strings.Replace(listNamespaces, "self", fmt.Sprint(first.Pid()), 1)), "\n")
	joined := func(s *specs.Spec) {
		s.Hostname = ""
		for kind, name := range procNames {
			if kind != specs.MountNamespace {
				join(s, kind, fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), name))
			}
		}
	}
	for _, name := range strings.Split(g.output(t, listNamespaces, joined), "\n") {
		if !slices.Contains(theirs, name) && !strings.HasPrefix(name, "mnt ") {
			t.Errorf("%s is not the other container's; want it joined", name)
		}
	}
}

// testJoinedMountNamespace makes a container in a mount namespace that the guest prepared.
func testJoinedMountNamespace(t *testing.T, g *guest) {
	holder := g.start(t, hostclient.ProcessConfig{
		Process: &specs.Process{Args: []string{
			guestBusybox, "unshare", "-m", guestBusybox, "sh", "-c", guestBusybox + " mount -t tmpfs prepared /run/spec && exec " + guestBusybox + " sleep 1000",
		}, Cwd: "/"},
		Stdout: io.Discard,
	})
	path := fmt.Sprintf("/proc/%d/ns/mnt", holder.Pid())
	own := g.root(t, "readlink /proc/self/ns/mnt")
	eventually(t, "the prepared namespace", func() bool {
		return g.root(t, "readlink "+path) != own && strings.Contains(g.root(t, fmt.Sprintf("cat /proc/%d/mounts", holder.Pid())), "prepared")
	})
	want := g.root(t, "readlink "+path)
	joined := func(s *specs.Spec) { join(s, specs.MountNamespace, path) }
	if got := g.output(t, "readlink /proc/self/ns/mnt", joined); got != want {
		t.Errorf("the container's mount namespace = %s; want %s", got, want)
	}
}

func testTimeOffsets(t *testing.T, g *guest) {
	later := func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1e6, Nanosecs: 5}, "monotonic": {Secs: 2e6}}
	}
	const script = `tr -s ' ' </proc/self/timens_offsets; cut -c1-4 /proc/uptime`
	if got, want := g.output(t, script, later), "monotonic 2000000 0\nboottime 1000000 5\n1000"; got != want {
		t.Errorf("offsets and uptime = %q; want %q", got, want)
	}
}
