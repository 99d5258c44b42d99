package vmtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// withShm changes the mount on /dev/shm of a spec; nil takes it away.
func withShm(spec *specs.Spec, m *specs.Mount) *specs.Spec {
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
	if m != nil {
		m.Destination = "/dev/shm"
		spec.Mounts = append(spec.Mounts, *m)
	}
	return spec
}

// testShareShm has the shared memory of a container go with its IPC namespace, and with nothing else. It outlives the container.
func testShareShm(t *testing.T, g *guest) {
	ctx := deadline(t)
	small := &specs.Mount{Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=1m"}}
	owner := g.start(t, hostclient.ProcessConfig{Spec: withShm(isolated(forever), small)})
	second := g.start(t, sharing(isolated(forever), owner, specs.IPCNamespace))
	stranger := g.start(t, sharing(isolated(forever), owner, specs.UTSNamespace))
	readOnly := g.start(t, sharing(withShm(isolated(forever), &specs.Mount{Type: "tmpfs", Options: []string{"ro", "nosuid"}}), owner, specs.IPCNamespace))
	bound := g.start(t, sharing(withShm(isolated(forever), &specs.Mount{Type: "bind", Source: "/run", Options: []string{"bind"}}), owner, specs.IPCNamespace))

	g.execIn(t, owner, "echo of the owner >/dev/shm/owner")
	if got := g.execIn(t, second, "cat /dev/shm/owner; echo of the second >/dev/shm/second; stat -c %a /dev/shm"); got != "of the owner\n1777\n" {
		t.Errorf("the second container reads %q; want what the owner wrote, and the owner's mode", got)
	}
	if got := g.execIn(t, owner, "cat /dev/shm/second"); got != "of the second\n" {
		t.Errorf("the owner reads %q; want what the second container wrote", got)
	}
	if got := g.execIn(t, second, "dd if=/dev/zero of=/dev/shm/big bs=64k count=32 2>&1 | grep -c 'No space'; rm /dev/shm/big"); got != "1\n" {
		t.Errorf("2 MB written: %q; want them not to fit, as with the owner", got)
	}
	if got := g.execIn(t, second, "grep ' /dev/shm ' /proc/mounts"); !strings.Contains(got, "nosuid,nodev,noexec") {
		t.Errorf("/dev/shm is mounted as %q; want it as restricted as the spec says", got)
	}
	if got := g.execIn(t, readOnly, "cat /dev/shm/owner; touch /dev/shm/x 2>&1 | grep -c Read-only"); got != "of the owner\n1\n" {
		t.Errorf("read-only: %q; want what the owner wrote, and no writing", got)
	}
	for what, p := range map[string]*hostclient.Process{"a container that shares no IPC namespace": stranger, "one that binds something there": bound} {
		if got := g.execIn(t, p, "ls /dev/shm/owner 2>&1 | grep -c 'No such'"); got != "1\n" {
			t.Errorf("%s: %q; want it not to see the owner's file", what, got)
		}
	}

	if _, err := owner.ForceDelete(ctx); err != nil {
		t.Fatalf("ForceDelete() = %v; want no error", err)
	}
	third := g.start(t, sharing(isolated(forever), second, specs.IPCNamespace))
	if got := g.execIn(t, third, "cat /dev/shm/*"); got != "of the owner\nof the second\n" {
		t.Errorf("after the owner's end a third container reads %q; want what the others wrote", got)
	}
}

// testShareShmReadOnly shares with a container whose shared memory is a guest's tmpfs that it may only read. The other may not write it either, though its own spec would let it.
func testShareShmReadOnly(t *testing.T, g *guest) {
	owner := g.start(t, hostclient.ProcessConfig{Spec: withShm(isolated(forever), &specs.Mount{Type: "bind", Source: "/run", Options: []string{"bind", "ro"}})})
	p := g.start(t, sharing(isolated(forever), owner, specs.IPCNamespace))
	if got := g.execIn(t, p, "touch /dev/shm/written 2>&1 | grep -c Read-only"); got != "1\n" {
		t.Errorf("touch: %q; want the file system to be read-only", got)
	}
	if got := g.execIn(t, p, "grep ' /dev/shm ' /proc/mounts"); !strings.Contains(got, "tmpfs ro,nosuid,nodev,noexec") {
		t.Errorf("/dev/shm is mounted as %q; want it restricted as both specs say", got)
	}
}

// testShareShmUsers does it in a user namespace that is shared too.
func testShareShmUsers(t *testing.T, g *guest) {
	owner := g.start(t, hostclient.ProcessConfig{Spec: withUsers(isolated("echo of the owner >/dev/shm/owner; " + forever))})
	p := g.start(t, sharing(withUsers(isolated(forever)), owner, specs.IPCNamespace, specs.UserNamespace))
	if got := g.execIn(t, p, "until cat /dev/shm/owner 2>/dev/null; do sleep 0.1; done; echo >/dev/shm/owner; stat -c %u /dev/shm/owner"); got != "of the owner\n0\n" {
		t.Errorf("the second container reads %q; want what the owner wrote, of the same root", got)
	}
}

// testShareShmHostile shares with containers that have put something else where their shared memory was. Nobody gets anything but a tmpfs, and what is mounted on that later stays where it is.
func testShareShmHostile(t *testing.T, g *guest) {
	const keeps, gets = "none\n", "of the owner\n"
	for _, tt := range []struct{ name, script, want string }{
		{"no mount", "umount /dev/shm", keeps},
		{"nothing", "umount /dev/shm; rmdir /dev/shm", keeps},
		{"another file system", "mount --bind /tmp /dev/shm; echo of the owner >/dev/shm/owner", keeps},
		{"a file", "umount /dev/shm; rmdir /dev/shm; touch /dev/shm", keeps},
		{"a directory of a tmpfs", "umount /dev/shm; echo of the owner >/dev/shm/owner", keeps},
		{"a link to itself", "umount /dev/shm; rmdir /dev/shm; ln -s shm /dev/shm", keeps},
		{"a link out of the root", "umount /dev/shm; rmdir /dev/shm; ln -s /../../../../../../../run /dev/shm", keeps},
		{"a magic link", "umount /dev/shm; rmdir /dev/shm; ln -s /proc/1/root/dev /dev/shm", keeps},
		{"shared mounts", "mount --make-shared /dev/shm; echo of the owner >/dev/shm/owner; mkdir /dev/shm/later", gets},
	} {
		spec := withAdmin(isolated(tt.script + "; touch /tmp/ready; sleep 100000"))
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp", Type: "ramfs", Source: "tmp"})
		owner := g.start(t, hostclient.ProcessConfig{Spec: spec})
		g.execIn(t, owner, "until test -e /tmp/ready; do sleep 0.1; done")
		p := g.start(t, sharing(isolated(forever), owner, specs.IPCNamespace))
		if got := g.execIn(t, p, "cat /dev/shm/owner 2>/dev/null || echo none"); got != tt.want {
			t.Errorf("%s: the other container reads %q; want %q", tt.name, got, tt.want)
		}
		if tt.want != gets {
			continue
		}
		g.execIn(t, owner, "mount -t tmpfs later /dev/shm/later")
		if got := g.execIn(t, p, "grep -c /dev/shm/ /proc/mounts || true"); got != "0\n" {
			t.Errorf("%s: %s mounts arrived in the other container; want none", tt.name, got)
		}
	}
}
