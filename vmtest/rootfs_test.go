package vmtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// The disks of the machine, and an image in a file.
const (
	erofsDisk    = "/dev/vda" // has /which and /erofs
	squashfsDisk = "/dev/vdb" // has /which and /squashfs
	quotaDisk    = "/dev/vdc" // ext4 with project quotas, empty
	smallDisk    = "/dev/vdd" // ext4 of 16 MiB without quotas, empty
	imageFile    = "/layer.squashfs"
)

// busyboxLayer is the lowest layer of most root file systems here: a directory of the guest.
func busyboxLayer() hostclient.FileSystem { return hostclient.FileSystem{Source: vmtest.Rootfs} }

// TestRootfs shows prepared root file systems in one machine, and the files that are put into containers.
func TestRootfs(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	g, disks := newRootfsGuest(t)
	before := g.mounts(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *guest)
	}{
		{"Restart", testRootfsRestart},
		{"KeptOnDisk", testRootfsOnDisk},
		{"Layers", testRootfsLayers},
		{"ImageInFile", testRootfsImage},
		{"Whole", testRootfsWhole},
		{"ReadOnly", testRootfsReadOnly},
		{"LimitOfMemory", testRootfsMemoryLimit},
		{"LimitByQuota", testRootfsQuota},
		{"LimitByDisk", testRootfsSmallDisk},
		{"InUse", testRootfsInUse},
		{"Refused", testRootfsRefused},
		{"Files", testFiles},
		{"FilesReadOnly", testFilesReadOnly},
		{"FilesBounded", testFilesBounded},
		{"FilesLinks", testFilesLinks},
		{"FilesUserNamespace", testFilesUserNamespace},
		{"FilesRefused", testFilesRefused},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, g) })
	}
	if after := g.mounts(t); after != before {
		t.Errorf("mounts in the guest = %s\nwant those of the beginning: %s", after, before)
	}
	if left := g.root(t, "ls /run/bellhop/rootfs /run/bellhop/files; cat /sys/block/loop*/loop/backing_file 2>/dev/null || true"); left != "/run/bellhop/files:\n\n/run/bellhop/rootfs:" {
		t.Errorf("left in the guest: %q; want nothing", left)
	}
	t.Run("Shutdown", func(t *testing.T) { testRootfsShutdown(t, g, disks) })
}

// newRootfsGuest gives the machine, and the images of its writable disks.
func newRootfsGuest(t *testing.T) (g *guest, disks []string) {
	t.Helper()
	erofs, squashfs := layerTree(t, "erofs"), layerTree(t, "squashfs")
	dir := t.TempDir()
	image := func(name string) string { return filepath.Join(dir, name) }
	hostTool(t, "mkfs.erofs", "--quiet", image("erofs"), erofs)
	hostTool(t, "mksquashfs", squashfs, image("squashfs"), "-quiet", "-no-progress")
	hostTool(t, "mke2fs", "-q", "-t", "ext4", "-O", "quota,project", "-E", "quotatype=prjquota", image("quota"), "64M")
	hostTool(t, "mke2fs", "-q", "-t", "ext4", image("small"), "16M")
	g = &guest{VM: vmtest.Start(t, vmtest.Busybox(),
		vmtest.Files(initramfs.File{Path: imageFile, Source: image("squashfs")}),
		vmtest.Machine(func(c *vmm.Config) {
			c.Disks = []vmm.Disk{
				{Path: image("erofs"), ReadOnly: true},
				{Path: image("squashfs"), ReadOnly: true},
				{Path: image("quota")},
				{Path: image("small")},
			}
		}))}
	return g, []string{image("quota"), image("small")}
}

// layerTree makes a tree with a file of its own and one that others have too.
func layerTree(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	for _, file := range []string{"which", name} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func hostTool(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if _, err := exec.LookPath(name); err != nil {
		cmd = exec.Command(filepath.Join("/usr/sbin", name), args...)
	}
	if out, err := cmd.CombinedOutput(); errors.Is(err, os.ErrNotExist) {
		t.Skipf("%v: run make deps", err)
	} else if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// mounts lists the mount points of the guest.
func (g *guest) mounts(t *testing.T) string {
	t.Helper()
	return g.root(t, "cut -d' ' -f2 /proc/mounts")
}

// prepare makes a root file system that is removed with the test.
func (g *guest) prepare(t *testing.T, r hostclient.Rootfs) *hostclient.PreparedRootfs {
	t.Helper()
	p, err := g.Client.PrepareRootfs(deadline(t), r)
	if err != nil {
		t.Fatalf("PrepareRootfs(%+v) = %v; want no error", r, err)
	}
	t.Cleanup(func() {
		if err := p.Remove(deadline(t)); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Remove() = %v; want no error", err)
		}
	})
	return p
}

// in runs a script in a container of its own on a root file system, and gives its output and error output, which the guest puts in order: as two streams they could overtake each other.
func (g *guest) in(t *testing.T, r *hostclient.PreparedRootfs, script string, change ...func(*hostclient.Cmd)) (string, error) {
	t.Helper()
	cmd := g.Client.NewContainer("", hostclient.DefaultSpec(r.Path, "/bin/sh", "-c", "exec 2>&1\n"+script)).Init(deadline(t))
	for _, c := range change {
		c(cmd)
	}
	out, err := cmd.Output()
	return string(out), err
}

// mustIn is in for a script that succeeds.
func (g *guest) mustIn(t *testing.T, r *hostclient.PreparedRootfs, script string, change ...func(*hostclient.Cmd)) string {
	t.Helper()
	out, err := g.in(t, r, script, change...)
	if err != nil {
		t.Fatalf("%s: %v, output %q", script, err, out)
	}
	return out
}

// testRootfsRestart lets containers follow each other on one root file system, by the same id: each sees what the others have left, and the guest is the same afterwards.
func testRootfsRestart(t *testing.T, g *guest) {
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{}})
	var mounts string
	var fds int
	const restarts = 20
	for i := range restarts {
		if i == 1 { // the first container of a guest makes what all need
			mounts, fds = g.mounts(t), g.agentFDs(t)
		}
		out := g.mustIn(t, r, "cat /left 2>/dev/null; echo "+fmt.Sprint(i)+" >>/left", func(c *hostclient.Cmd) { c.ID = "again" })
		if want := strings.TrimSuffix(numberedFrom0(i), "\n"); strings.TrimSuffix(out, "\n") != want {
			t.Fatalf("restart %d found %q; want %q", i, out, want)
		}
	}
	if after := g.mounts(t); after != mounts {
		t.Errorf("mounts after %d restarts = %s\nwant those before: %s", restarts, after, mounts)
	}
	eventually(t, "the agent's descriptors to be as many as before", func() bool { return g.agentFDs(t) <= fds })
	if out := g.root(t, "ls "+vmtest.Rootfs); strings.Contains(out, "left") {
		t.Errorf("the layer has %q; want it as it was", out)
	}
}

// numberedFrom0 gives the lines 0 to n-1.
func numberedFrom0(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// testRootfsOnDisk prepares a root file system twice with the same upper on a disk.
func testRootfsOnDisk(t *testing.T, g *guest) {
	disk := &hostclient.FileSystem{Source: smallDisk, Type: "ext4"}
	for _, step := range []struct{ script, want string }{
		{"echo kept >/kept; rm /etc/group; mv /root /moved", ""},
		{"cat /kept; ls /etc; ls -d /moved; rm -r /kept /moved", "kept\npasswd\n/moved\n"},
	} {
		r := g.prepare(t, hostclient.Rootfs{ID: "on-disk", Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{Disk: disk}})
		if out := g.mustIn(t, r, step.script); out != step.want {
			t.Errorf("%s = %q; want %q", step.script, out, step.want)
		}
		if err := r.Remove(deadline(t)); err != nil {
			t.Fatalf("Remove() = %v; want no error", err)
		}
	}
}

// testRootfsLayers lays file systems of all kinds over each other: the last wins.
func testRootfsLayers(t *testing.T, g *guest) {
	erofs := hostclient.FileSystem{Source: erofsDisk, Type: "erofs"}
	squashfs := hostclient.FileSystem{Source: squashfsDisk, Type: "squashfs"}
	for _, tt := range []struct {
		layers []hostclient.FileSystem
		want   string
	}{
		{[]hostclient.FileSystem{busyboxLayer(), erofs, squashfs}, "squashfs"},
		{[]hostclient.FileSystem{squashfs, busyboxLayer(), erofs}, "erofs"},
	} {
		// At once, and with the layers shared.
		for range 2 {
			r := g.prepare(t, hostclient.Rootfs{Layers: tt.layers, Upper: &hostclient.Upper{}})
			out := g.mustIn(t, r, "cat /which; ls /erofs /squashfs /bin/sh; echo changed >/which; cat /which")
			if want := tt.want + "/bin/sh\n/erofs\n/squashfs\nchanged\n"; out != want {
				t.Errorf("in layers %v: %q; want %q", tt.layers, out, want)
			}
		}
	}
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{erofs, squashfs}})
	if out := g.root(t, "cat "+r.Path+"/which"); out != "squashfs" {
		t.Errorf("without an upper, /which is %q; want that of the topmost layer", out)
	}
}

// testRootfsImage has a layer that is an image in a file.
func testRootfsImage(t *testing.T, g *guest) {
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer(), {Source: imageFile, Type: "squashfs"}}})
	if out := g.mustIn(t, r, "cat /which"); out != "squashfs" {
		t.Errorf("/which = %q; want that of the image", out)
	}
}

// testRootfsWhole uses a file system as it is.
func testRootfsWhole(t *testing.T, g *guest) {
	dir := busyboxLayer()
	r := g.prepare(t, hostclient.Rootfs{Whole: &dir})
	g.mustIn(t, r, "echo x >/tmp/whole")
	if out := g.root(t, "cat tmp/whole; rm tmp/whole"); out != "x" {
		t.Errorf("the directory has %q; want what the container wrote", out)
	}
	dir.Options = []string{"ro"}
	r = g.prepare(t, hostclient.Rootfs{Whole: &dir})
	if out, err := g.in(t, r, "echo x >/tmp/whole"); err == nil || !strings.Contains(out, "Read-only file system") {
		t.Errorf("writing = %v, %q; want that the file system is read-only", err, out)
	}
	disk := g.prepare(t, hostclient.Rootfs{Whole: &hostclient.FileSystem{Source: erofsDisk, Type: "erofs", Options: []string{"ro"}}})
	if out := g.root(t, "cat "+disk.Path+"/which"); out != "erofs" {
		t.Errorf("/which of the disk = %q; want erofs", out)
	}
}

// testRootfsReadOnly has layers and no upper.
func testRootfsReadOnly(t *testing.T, g *guest) {
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}})
	if out, err := g.in(t, r, "cat /etc/group && echo x >/tmp/x"); err == nil || !strings.HasPrefix(out, "root:x:0:") || !strings.Contains(out, "Read-only file system") {
		t.Errorf("reading and writing = %v, %q; want the file, and that the file system is read-only", err, out)
	}
}

// testRootfsInUse removes a root file system that a container uses, and prepares one with the upper of another.
func testRootfsInUse(t *testing.T, g *guest) {
	ctx := deadline(t)
	rootfs := hostclient.Rootfs{
		ID: "used", Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{Disk: &hostclient.FileSystem{Source: smallDisk, Type: "ext4"}},
	}
	r := g.prepare(t, rootfs)
	web := g.start(t, hostclient.ProcessConfig{Spec: hostclient.DefaultSpec(r.Path, "/bin/sleep", "1000")})
	if err := r.Remove(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Remove() while a container uses it = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if list, err := g.otherClient(t).ListRootfs(ctx); err != nil || len(list) != 1 || list[0].ID != "used" || list[0].Path != r.Path || list[0].Containers != 1 {
		t.Errorf("ListRootfs() = %+v, %v; want the one that is used once", list, err)
	}
	again := rootfs
	if _, err := g.Client.PrepareRootfs(ctx, again); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("PrepareRootfs() with an id that exists = %v; want errdefs.ErrAlreadyExists", err)
	}
	again.ID = ""
	if _, err := g.Client.PrepareRootfs(ctx, again); !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "used writes there") {
		t.Errorf("PrepareRootfs() with the upper of another = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if _, err := web.ForceDelete(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(ctx); err != nil {
		t.Errorf("Remove() = %v; want no error", err)
	}
	if err := r.Remove(ctx); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("second Remove() = %v; want errdefs.ErrNotFound", err)
	}
}

// testRootfsRefused prepares what cannot be: each says why, and leaves nothing mounted.
func testRootfsRefused(t *testing.T, g *guest) {
	mounts := g.mounts(t)
	fs := func(source, kind string) hostclient.FileSystem {
		return hostclient.FileSystem{Source: source, Type: kind}
	}
	layers := func(fs ...hostclient.FileSystem) hostclient.Rootfs {
		return hostclient.Rootfs{Layers: append([]hostclient.FileSystem{busyboxLayer()}, fs...), Upper: &hostclient.Upper{}}
	}
	onUpper := func(disk hostclient.FileSystem) hostclient.Rootfs {
		return hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer(), fs(erofsDisk, "erofs")}, Upper: &hostclient.Upper{Disk: &disk}}
	}
	file := fs(vmtest.Rootfs+"/etc/passwd", "")
	for _, tt := range []struct {
		name   string
		rootfs hostclient.Rootfs
		want   error
		text   string
	}{
		{"missing directory", layers(fs("/nope", "")), errdefs.ErrNotFound, "layer 1: open /nope: no such file"},
		{"a file as a directory", layers(file), errdefs.ErrInvalidArgument, "layer 1: "},
		{"a file as the whole", hostclient.Rootfs{Whole: &file}, errdefs.ErrInvalidArgument, "not a directory"},
		{"relative path", layers(fs("x", "")), errdefs.ErrInvalidArgument, "layers[1].source"},
		{"missing disk", layers(fs(erofsDisk, "erofs"), fs("/dev/vdz", "ext4")), errdefs.ErrNotFound, "layer 2: mount /dev/vdz (ext4)"},
		{"another file system", layers(fs(squashfsDisk, "erofs")), errdefs.ErrInvalidArgument, "layer 1: mount " + squashfsDisk + " (erofs)"},
		{"unknown file system", layers(fs(erofsDisk, "nofs")), errdefs.ErrNotImplemented, "the kernel has no file system nofs"},
		{"unknown option", layers(hostclient.FileSystem{Source: erofsDisk, Type: "erofs", Options: []string{"nooption"}}), errdefs.ErrInvalidArgument, "layer 1: "},
		{"too many layers", layers(make([]hostclient.FileSystem, 128)...), errdefs.ErrInvalidArgument, "layers: 129"},
		{"read-only upper", onUpper(fs(squashfsDisk, "squashfs")), nil, "upper: "},
		{"whole and layers", hostclient.Rootfs{Whole: &file, Layers: []hostclient.FileSystem{busyboxLayer()}}, errdefs.ErrInvalidArgument, "layers: either"},
		{"whole and upper", hostclient.Rootfs{Whole: &file, Upper: &hostclient.Upper{}}, errdefs.ErrInvalidArgument, "upper: is for layers"},
		{"nothing", hostclient.Rootfs{}, errdefs.ErrInvalidArgument, "layers: either"},
		{"bad id", hostclient.Rootfs{ID: "../x", Layers: []hostclient.FileSystem{busyboxLayer()}}, errdefs.ErrInvalidArgument, ""},
	} {
		r, err := g.Client.PrepareRootfs(deadline(t), tt.rootfs)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: PrepareRootfs() = %+v, %v; want %v with %q", tt.name, r, err, tt.want, tt.text)
		}
	}
	ended, cancel := context.WithCancel(deadline(t))
	cancel()
	if _, err := g.Client.PrepareRootfs(ended, layers()); !errors.Is(err, context.Canceled) {
		t.Errorf("PrepareRootfs() with an ended context = %v; want context.Canceled", err)
	}
	if after := g.mounts(t); after != mounts {
		t.Errorf("mounts afterwards = %s\nwant those before: %s", after, mounts)
	}
	if left := g.root(t, "ls /run/bellhop/rootfs"); left != "" {
		t.Errorf("left in the store: %q; want nothing", left)
	}
}

// testRootfsShutdown ends the guest while a container writes to a disk, and another disk is mounted: both are clean then.
func testRootfsShutdown(t *testing.T, g *guest, disks []string) {
	ctx := deadline(t)
	if err := g.Client.Mount(ctx, hostclient.Mount{Source: quotaDisk, Target: "/run/quota", Type: "ext4"}); err != nil {
		t.Fatalf("Mount() = %v; want no error", err)
	}
	r, err := g.Client.PrepareRootfs(ctx, hostclient.Rootfs{
		Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{Disk: &hostclient.FileSystem{Source: smallDisk, Type: "ext4"}},
	})
	if err != nil {
		t.Fatalf("PrepareRootfs() = %v; want no error", err)
	}
	out := new(output)
	writer, err := g.Client.NewProcess(hostclient.ProcessConfig{
		Spec: hostclient.DefaultSpec(r.Path, "/bin/sh", "-c", "exec 3>/open; while :; do echo x >/x; echo y >&3; echo; done"), Stdout: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Launch(ctx); err != nil {
		t.Fatalf("Launch() = %v; want no error", err)
	}
	out.await(t, "\n")
	if err := g.Client.Shutdown(ctx); err != nil {
		t.Fatalf("Shutdown() = %v; want no error", err)
	}
	if err := g.Machine.Wait(); err != nil {
		t.Errorf("the machine ended with %v; want no error", err)
	}
	for _, disk := range disks {
		features, err := exec.Command("/usr/sbin/dumpe2fs", "-h", disk).Output()
		if err != nil || !strings.Contains(string(features), "Filesystem state:         clean") || strings.Contains(string(features), "needs_recovery") {
			t.Errorf("%s: %v; want a clean disk, without a journal to replay:\n%s", disk, err, features)
		}
		hostTool(t, "e2fsck", "-f", "-n", disk)
	}
}
