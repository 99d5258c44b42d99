package vmtest_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// withFiles puts files into the container of a command.
func withFiles(files ...hostclient.ContainerFile) func(*hostclient.Cmd) {
	return func(c *hostclient.Cmd) { c.Files = files }
}

func readOnlyRoot(c *hostclient.Cmd) { c.Spec.Root.Readonly = true }

func networkFiles() []hostclient.ContainerFile {
	return hostclient.NetworkFiles("web", netip.MustParseAddr("10.0.2.3"))
}

// testFiles puts files into a container whose root file system can be written to.
func testFiles(t *testing.T, g *guest) {
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{}})
	files := append(networkFiles(),
		hostclient.ContainerFile{Path: "/etc/passwd", Content: []byte("over what is there\n")},
		hostclient.ContainerFile{Path: "/new/dir/secret", Content: []byte("s"), Mode: 0o400, UID: 1000, GID: 1001},
	)
	const script = "cat /etc/hostname /etc/hosts /etc/resolv.conf /etc/passwd; stat -c '%a %u %g' /etc/hosts /new/dir/secret; echo more >>/etc/hosts && tail -n1 /etc/hosts"
	want := "web\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tweb\nnameserver 10.0.2.3\nover what is there\n644 0 0\n400 1000 1001\nmore\n"
	for range 2 { // the second container gets them anew
		if out := g.mustIn(t, r, script, withFiles(files...)); out != want {
			t.Errorf("the container sees %q; want %q", out, want)
		}
	}
	if out := g.mustIn(t, r, "cat /etc/passwd | wc -l; cat /etc/hosts"); out != "2\n" {
		t.Errorf("without files the container sees %q; want its own accounts, and an empty /etc/hosts for the files to lie on", out)
	}
}

// testFilesReadOnly puts files into containers that can't write to their root, whether their spec or the medium says so.
func testFilesReadOnly(t *testing.T, g *guest) {
	writable := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{}})
	if out, err := g.in(t, writable, "cat /etc/resolv.conf; echo x >/etc/resolv.conf", readOnlyRoot, withFiles(networkFiles()...)); err == nil ||
		!strings.HasPrefix(out, "nameserver 10.0.2.3\n") || !strings.Contains(out, "Read-only file system") {
		t.Errorf("with root.readonly: %v, %q; want the file, and that it can't be written to", err, out)
	}
	readOnly := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}})
	file := hostclient.ContainerFile{Path: "/etc/group", Content: []byte("mine")}
	if out := g.mustIn(t, readOnly, "cat /etc/group", withFiles(file)); out != "mine" {
		t.Errorf("on a read-only medium: %q; want the file", out)
	}
	_, err := g.in(t, readOnly, "true", withFiles(file, hostclient.ContainerFile{Path: "/etc/nope"}))
	if !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "file /etc/nope: the root file system does not have it and is read-only") {
		t.Errorf("a file that the read-only medium does not have: %v; want errdefs.ErrFailedPrecondition, and why", err)
	}
	// Beneath a mount of the spec there is room.
	tmpfs := func(c *hostclient.Cmd) {
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	}
	if out := g.mustIn(t, readOnly, "cat /tmp/a/b", tmpfs, withFiles(hostclient.ContainerFile{Path: "/tmp/a/b", Content: []byte("deep")})); out != "deep" {
		t.Errorf("beneath a tmpfs: %q; want the file", out)
	}
}

// testFilesBounded has a container write much to a file that was put into it: it fills its own, not the guest's memory.
func testFilesBounded(t *testing.T, g *guest) {
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{}})
	file := withFiles(hostclient.ContainerFile{Path: "/etc/hosts"})
	out, err := g.in(t, r, "dd if=/dev/zero of=/etc/hosts bs=64k count=1000 2>/dev/null; stat -c %s /etc/hosts; chmod 4755 /etc/hosts; /etc/hosts", file)
	if err == nil || !strings.HasPrefix(out, "1048576\n") || !strings.Contains(out, "Permission denied") {
		t.Errorf("filling a file, and executing it = %v, %q; want 1 MiB, and that it can't be executed", err, out)
	}
	if left := g.root(t, "ls /run/bellhop/files"); left != "" {
		t.Errorf("left in the guest: %q; want nothing", left)
	}
}

// testFilesLinks has root file systems whose links lead out of it: nothing outside changes, and links that are meant well work.
func testFilesLinks(t *testing.T, g *guest) {
	const victim, layer = "/run/victim", "/run/hostile"
	g.root(t, "echo untouched >"+victim+"; mkdir -p "+layer+"/etc "+layer+"/a; cd "+layer+`
ln -s `+victim+` etc/hosts
ln -s ../../../../../../..`+victim+` etc/resolv.conf
ln -s /proc/1/root`+victim+` etc/proc
ln -s /proc/self/fd/0 etc/fd
ln -s / a/root
ln -s loop etc/loop
ln -s ../run/systemd/resolve/stub-resolv.conf etc/stub`)
	defer g.root(t, "rm -r "+victim+" "+layer)
	for _, tt := range []struct {
		path  string
		works bool
	}{
		{"/etc/hosts", true},
		{"/etc/resolv.conf", true},
		{"/etc/stub", true},
		{"/a/root/file", true},
		{"/a/root/a/root/run/victim", true},
		{"/etc/proc", false},
		{"/etc/fd", false},
		{"/etc/loop", false},
		{"/proc/sysrq-trigger", false},
		{"/", false},
		{"/a/root", false},
	} {
		r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer(), {Source: layer}}, Upper: &hostclient.Upper{}})
		out, err := g.in(t, r, "cat "+tt.path+"; echo mine >"+tt.path, withFiles(hostclient.ContainerFile{Path: tt.path, Content: []byte("mine\n")}))
		if works := err == nil && out == "mine\n"; works != tt.works {
			t.Errorf("a file at %s: %q, %v; want that it works: %v", tt.path, out, err, tt.works)
		}
		if out := g.root(t, "cat "+victim+"; ls /run/systemd /file 2>/dev/null || true"); out != "untouched" {
			t.Errorf("after a file at %s, in the guest: %q; want it untouched", tt.path, out)
		}
	}
}

// testFilesUserNamespace gives files to users of a container with a user namespace.
func testFilesUserNamespace(t *testing.T, g *guest) {
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{}})
	g.root(t, "chown -R 100000:100000 "+r.Path+"/etc")
	mapped := func(c *hostclient.Cmd) {
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 2000}}
		c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings = ids, ids
		c.Spec.Root.Readonly = true
	}
	file := hostclient.ContainerFile{Path: "/etc/hosts", Content: []byte("x\n"), Mode: 0o640, UID: 1000, GID: 0}
	if out := g.mustIn(t, r, "stat -c '%a %u %g' /etc/hosts; cat /etc/hosts", mapped, withFiles(file)); out != "640 1000 0\nx\n" {
		t.Errorf("in the user namespace: %q; want the file with its owner", out)
	}
	// A container that joins the namespace has the same users.
	spec := hostclient.DefaultSpec(r.Path, "/bin/sleep", "1000")
	mapped(&hostclient.Cmd{Spec: spec})
	owner := g.start(t, hostclient.ProcessConfig{Spec: spec})
	joining := sharing(hostclient.DefaultSpec(r.Path, "/bin/stat", "-c", "%a %u %g", "/etc/hosts"), owner, specs.UserNamespace)
	joining.Spec.Root.Readonly, joining.Files = true, []hostclient.ContainerFile{file}
	if status, out := g.run(t, joining); !status.Success() || out != "640 1000 0\n" {
		t.Errorf("in the user namespace of another container: %v, %q; want the file with its owner", status, out)
	}
	if _, err := owner.ForceDelete(deadline(t)); err != nil {
		t.Fatal(err)
	}
	file.UID = 2000
	if _, err := g.in(t, r, "true", mapped, withFiles(file)); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "2000 is not mapped") {
		t.Errorf("an owner that is not mapped: %v; want errdefs.ErrInvalidArgument", err)
	}
}

// testFilesRefused asks for files that no container can have.
func testFilesRefused(t *testing.T, g *guest) {
	many := make([]hostclient.ContainerFile, 65)
	for i := range many {
		many[i].Path = "/x/" + strings.Repeat("y", i+1)
	}
	for _, tt := range []struct {
		files []hostclient.ContainerFile
		text  string
	}{
		{[]hostclient.ContainerFile{{Path: "etc/hosts"}}, "container.files[0].path"},
		{[]hostclient.ContainerFile{{Path: "/etc/../x"}}, "container.files[0].path"},
		{[]hostclient.ContainerFile{{Path: "/x"}, {Path: "/x"}}, "twice"},
		{[]hostclient.ContainerFile{{Path: "/x", Mode: 0o4755}}, "mode"},
		{[]hostclient.ContainerFile{{Path: "/x", Content: make([]byte, 64<<10+1)}}, "65537 bytes"},
		{many, "65, at most 64"},
	} {
		cmd := g.Client.NewContainer("", hostclient.DefaultSpec(vmtest.Rootfs, "/bin/true")).Init(deadline(t))
		cmd.Files = tt.files
		if err := cmd.Run(); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("files %.60v: %v; want errdefs.ErrInvalidArgument with %q", tt.files, err, tt.text)
		}
	}
}
