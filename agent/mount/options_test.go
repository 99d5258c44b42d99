//go:build linux

package mount

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestParseOptions(t *testing.T) {
	for _, tt := range []struct {
		in    []string
		flags uintptr
		data  string
		prop  int
	}{
		{nil, 0, "", 0},
		{[]string{"defaults"}, 0, "", 0},
		{[]string{"ro", "nosuid,nodev", "", "x-initrd.mount"}, unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV, "", 0},
		{[]string{"ro", "rw"}, 0, "", 0},
		{[]string{"rbind", "rprivate"}, unix.MS_BIND | unix.MS_REC, "", 1},
		{[]string{"size=1m", "noexec", "mode=0700"}, unix.MS_NOEXEC, "size=1m,mode=0700", 0},
		{[]string{"lowerdir=/a:/b,upperdir=/u,workdir=/w"}, 0, "lowerdir=/a:/b,upperdir=/u,workdir=/w", 0},
	} {
		o, err := parseOptions(tt.in)
		if err != nil {
			t.Errorf("parseOptions(%q) = %v", tt.in, err)
			continue
		}
		if o.flags != tt.flags || o.data != tt.data || len(o.propagation) != tt.prop {
			t.Errorf("parseOptions(%q) = %#x, %q, %d; want %#x, %q, %d", tt.in, o.flags, o.data, len(o.propagation), tt.flags, tt.data, tt.prop)
		}
	}
}

func TestMountRefuses(t *testing.T) {
	for _, m := range []*pb.Mount{
		{Source: "x", Target: "relative", Type: "tmpfs"},
		{Source: "x", Target: "/", Type: "tmpfs"},
		{Source: "x", Target: "/a/../b", Type: "tmpfs"},
		{Source: "x", Target: "/a\x00b", Type: "tmpfs"},
		{Source: "x\x00y", Target: "/nowhere/a", Type: "tmpfs"},
		{Source: "x", Target: "/nowhere/a", Type: "tm\x00pfs"},
		{Source: "x", Target: "/nowhere/a"},
		{Source: "relative", Target: "/nowhere/a", Type: "bind"},
		{Source: "/x", Target: "/nowhere/a", Type: "bind", Options: []string{"size=1"}},
		{Source: "x", Target: "/nowhere/a", Type: "tmpfs", Options: []string{"a\x00b"}},
		{Source: "x", Target: "/nowhere/a", Type: "tmpfs", Options: []string{strings.Repeat("x", 5000)}},
	} {
		if err := Mount(m); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Mount(%q on %q, %q) = %v; want invalid argument", m.Source, m.Target, m.Type, err)
		}
	}
	if err := Unmount("relative"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Unmount(relative) = %v; want invalid argument", err)
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("ro,nosuid,size=1m")
	f.Add("rbind,rprivate,x-foo")
	f.Fuzz(func(t *testing.T, words string) {
		o, err := parseOptions([]string{words})
		if err == nil && (len(o.data) > maxData || strings.ContainsRune(o.data, 0)) {
			t.Errorf("parseOptions(%q) gives %d bytes of data", words, len(o.data))
		}
	})
}
