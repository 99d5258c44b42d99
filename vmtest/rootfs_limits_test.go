package vmtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/hostclient"
)

const mib = 1 << 20

// fill is a script that writes a file until it can't, and says why and how much.
const fill = `dd if=/dev/zero of=/fill bs=64k count=1024 2>&1 | grep -i -o -e "no space left on device" -e "quota exceeded"; stat -c %s /fill`

// checkFull looks at what fill has said: it had to end at limit, less what the file system itself needs.
func checkFull(t *testing.T, out, reason string, limit int) {
	t.Helper()
	said, size, _ := strings.Cut(strings.TrimSpace(out), "\n")
	var n int
	if _, err := fmt.Sscan(size, &n); err != nil || !strings.EqualFold(said, reason) || n > limit || n < limit*3/4 {
		t.Errorf("filling up said %q; want %q and at most %d bytes, and not much less", out, reason, limit)
	}
}

// testRootfsMemoryLimit fills an upper in memory with bytes, and with empty files.
func testRootfsMemoryLimit(t *testing.T, g *guest) {
	r := g.prepare(t, hostclient.Rootfs{Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{Limit: 8 * mib}})
	checkFull(t, g.mustIn(t, r, fill), "no space left on device", 8*mib)
	out, err := g.in(t, r, "rm /fill; mkdir /many; i=0; while : 2>/dev/null >/many/$i; do i=$((i+1)); [ $i -lt 10000 ] || exit 0; done; echo $i")
	if n := 0; err == nil {
		if _, serr := fmt.Sscan(out, &n); serr != nil || n > 8*mib/4096 {
			t.Errorf("making empty files = %q, %v; want an end at %d", out, serr, 8*mib/4096)
		}
	}
	if err := g.Client.Ping(deadline(t)); err != nil {
		t.Errorf("Ping() = %v; want that the guest lives", err)
	}
}

// testRootfsQuota has two root file systems on one disk, each with a limit.
func testRootfsQuota(t *testing.T, g *guest) {
	const mounted = "/run/quota"
	if err := g.Client.Mount(deadline(t), hostclient.Mount{Source: quotaDisk, Target: mounted, Type: "ext4"}); err != nil {
		t.Fatalf("Mount() = %v; want no error", err)
	}
	defer func() {
		if err := g.Client.Unmount(deadline(t), mounted); err != nil {
			t.Errorf("Unmount() = %v; want no error", err)
		}
	}()
	with := func(t *testing.T, name string, limit int64) (*hostclient.PreparedRootfs, error) {
		return g.Client.PrepareRootfs(deadline(t), hostclient.Rootfs{
			ID: name, Layers: []hostclient.FileSystem{busyboxLayer()},
			Upper: &hostclient.Upper{Disk: &hostclient.FileSystem{Source: mounted + "/" + name}, Limit: limit},
		})
	}
	for _, step := range []struct {
		name  string
		limit int64
		room  int // 0: no end
	}{{"one", 8 * mib, 8 * mib}, {"two", 4 * mib, 4 * mib}, {"one", 16 * mib, 16 * mib}, {"one", 0, 0}} {
		r, err := with(t, step.name, step.limit)
		if err != nil {
			t.Fatalf("PrepareRootfs(limit %d) = %v; want no error", step.limit, err)
		}
		script := fill
		if step.room == 0 {
			script = "rm -f /fill; dd if=/dev/zero of=/fill bs=64k count=320 2>&1 | grep -c exceeded; stat -c %s /fill; rm /fill"
		}
		out := g.mustIn(t, r, script, withCapability("CAP_SYS_RESOURCE"))
		if step.room == 0 && out != fmt.Sprintf("0\n%d\n", 20*mib) {
			t.Errorf("without a limit any more: %q; want 20 MiB written", out)
		} else if step.room != 0 {
			checkFull(t, out, "quota exceeded", step.room)
		}
		if err := r.Remove(deadline(t)); err != nil {
			t.Fatalf("Remove() = %v; want no error", err)
		}
	}
	g.root(t, "mkdir -p "+mounted+"/used/upper")
	if _, err := with(t, "used", mib); !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "would not count") {
		t.Errorf("PrepareRootfs() with a limit on what was used without = %v; want errdefs.ErrFailedPrecondition", err)
	}
}

// withCapability gives root in the container one more capability: CAP_SYS_RESOURCE is the one for which quotas do not hold elsewhere.
func withCapability(name string) func(*hostclient.Cmd) {
	return func(c *hostclient.Cmd) {
		caps := c.Spec.Process.Capabilities
		for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
			*set = append(slices.Clone(*set), name)
		}
	}
}

// testRootfsSmallDisk fills a disk of its own, which has no quotas.
func testRootfsSmallDisk(t *testing.T, g *guest) {
	rootfs := hostclient.Rootfs{
		Layers: []hostclient.FileSystem{busyboxLayer()}, Upper: &hostclient.Upper{Disk: &hostclient.FileSystem{Source: smallDisk, Type: "ext4"}, Limit: mib},
	}
	if _, err := g.Client.PrepareRootfs(deadline(t), rootfs); !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "no project quotas") {
		t.Errorf("PrepareRootfs() with a limit on a disk without quotas = %v; want errdefs.ErrFailedPrecondition", err)
	}
	rootfs.Upper.Limit = 0
	r := g.prepare(t, rootfs)
	checkFull(t, g.mustIn(t, r, fill+"; rm /fill"), "no space left on device", 16*mib)
}
