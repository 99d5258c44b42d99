//go:build linux

package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// tree makes a root with a few programs, and links that lead out of it.
func tree(t *testing.T) *Dir {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "etc", "sub"} {
		must(os.Mkdir(filepath.Join(root, d), 0o755))
	}
	must(os.WriteFile(filepath.Join(root, "bin/prog"), nil, 0o755))
	must(os.WriteFile(filepath.Join(root, "bin/plain"), nil, 0o644))
	must(os.WriteFile(filepath.Join(root, "sub/prog"), nil, 0o755))
	must(os.Symlink("/bin/prog", filepath.Join(root, "bin/link")))
	must(os.Symlink("/etc/hostname-of-the-host", filepath.Join(root, "bin/out")))
	must(os.Symlink("../../../../../../../../../../bin/sh", filepath.Join(root, "bin/up")))
	must(os.Symlink("loop", filepath.Join(root, "bin/loop")))
	must(unix.Mkfifo(filepath.Join(root, "etc/fifo"), 0o644))
	d, err := Open(root)
	must(err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestFindProgram(t *testing.T) {
	d := tree(t)
	for _, tt := range []struct {
		name, path, cwd string
		want            error
	}{
		{"prog", "/bin", "/", nil},
		{"prog", "/nope:/bin", "/", nil},
		{"prog", "", "/", syscall.ENOENT},
		{"plain", "/bin", "/", syscall.EACCES},
		{"nope", "/bin", "/", syscall.ENOENT},
		{"/bin/prog", "", "/", nil},
		{"bin/prog", "", "/", nil},
		{"./prog", "", "/sub", nil},
		{"../bin/prog", "", "/sub", nil},
		{"/bin", "", "/", syscall.EACCES},
		{"/etc/fifo", "", "/", syscall.EACCES},
		{"/bin/link", "", "/", nil},
		{"/bin/out", "", "/", syscall.ENOENT},
		{"/bin/up", "", "/", syscall.ENOENT}, // the host's /bin/sh must not be found
		{"/bin/loop", "", "/", syscall.ELOOP},
		{"/bin/prog/x", "", "/", syscall.ENOTDIR},
	} {
		if err := d.FindProgram(tt.name, []string{"PATH=/wrong", "PATH=" + tt.path}, tt.cwd); err != tt.want && !errors.Is(err, tt.want) {
			t.Errorf("FindProgram(%q, PATH=%s, %s) = %v; want %v", tt.name, tt.path, tt.cwd, err, tt.want)
		}
	}
}

func TestReadFileRefuses(t *testing.T) {
	d := tree(t)
	if err := os.WriteFile(filepath.Join(d.f.Name(), "etc/big"), make([]byte, 101), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want error
	}{
		{"/etc/fifo", syscall.EINVAL},
		{"/etc", syscall.EINVAL},
		{"/etc/big", syscall.EFBIG},
		{"/etc/nope", syscall.ENOENT},
		{"/bin/up", syscall.ENOENT},
	} {
		if _, err := d.ReadFile(tt.path, 100); !errors.Is(err, tt.want) {
			t.Errorf("ReadFile(%s) = %v; want %v", tt.path, err, tt.want)
		}
	}
}

func TestUsers(t *testing.T) {
	d := tree(t)
	if home := d.Home(0); home != "/" {
		t.Errorf("Home(0) without accounts = %q; want /", home)
	}
	for name, content := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\nbroken line\nweb:x:1000:1001::/home/web:/bin/sh\n",
		"group":  "web:x:1001:\nstaff:x:50:web\n",
	} {
		if err := os.WriteFile(filepath.Join(d.f.Name(), "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u, err := d.LookupUser("web")
	if err != nil || u.UID != 1000 || u.GID != 1001 || u.Home != "/home/web" || !slices.Contains(u.Groups, 50) {
		t.Errorf("LookupUser(web) = %+v, %v; want 1000:1001 with group 50", u, err)
	}
	if u, err := d.LookupUser("web:staff"); err != nil || u.GID != 50 {
		t.Errorf("LookupUser(web:staff) = %+v, %v; want gid 50", u, err)
	}
	if _, err := d.LookupUser("nobody-here"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("LookupUser(nobody-here) = %v; want invalid argument", err)
	}
	if home := d.Home(1000); home != "/home/web" {
		t.Errorf("Home(1000) = %q; want /home/web", home)
	}
	if home := d.Home(4242); home != "/" {
		t.Errorf("Home(4242) = %q; want /", home)
	}
}
