package vmm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// DefaultFreeSpace is what an image has beyond its tree, in bytes. Images are
// sparse, so it costs nothing before the guest uses it.
const DefaultFreeSpace = 256 << 20

// Ext4Options are the details of an ext4 image; nil means the defaults.
type Ext4Options struct {
	// FreeSpace is room for the guest's own files, in bytes; 0: DefaultFreeSpace.
	FreeSpace int64

	// TempDir is where TempExt4 puts the image; "": os.TempDir.
	TempDir string

	// SquashOwners gives everything to root. Without it files have the
	// owners that they have on the host, if this process is root; else they
	// are squashed always, since the host's owner means nothing to the guest.
	SquashOwners bool
}

// TempExt4 makes an ext4 image of a directory in a file that has no name any
// more, so that it is gone when it is closed, however this process ends. The
// caller closes it, after the VM that has it as a [Disk]. mke2fs(8) does the work;
// privilege is not needed.
//
// The image has no journal: it is made to be thrown away.
func TempExt4(ctx context.Context, dir string, opts *Ext4Options) (*os.File, error) {
	if opts == nil {
		opts = &Ext4Options{}
	}
	f, err := os.CreateTemp(opts.TempDir, "bellhop-*.ext4")
	if err != nil {
		return nil, fmt.Errorf("cannot make image of %s: %w", dir, err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		err = WriteExt4(ctx, f, dir, opts)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// WriteExt4 replaces the content of f by an ext4 image of a directory, as
// [TempExt4] does. f stays the caller's.
func WriteExt4(ctx context.Context, f *os.File, dir string, opts *Ext4Options) error {
	if opts == nil {
		opts = &Ext4Options{}
	}
	if err := writeExt4(ctx, f, dir, opts); err != nil {
		return fmt.Errorf("cannot make image of %s: %w", dir, err)
	}
	return nil
}

func writeExt4(ctx context.Context, f *os.File, dir string, opts *Ext4Options) error {
	tree, err := measureTree(dir)
	if err != nil {
		return err
	}
	size := tree.imageSize(opts.freeSpace())
	if err := resetFile(f, size.bytes); err != nil {
		return err
	}
	args := []string{
		"-q", "-F", "-t", "ext4", "-b", fmt.Sprint(ext4Block), "-N", fmt.Sprint(size.inodes), "-m", "0",
		// A journal and room for growing are of no use to a throw-away image.
		"-O", "^has_journal,^resize_inode",
		"-E", "root_owner=0:0,lazy_itable_init=1,nodiscard",
		"-d", dir, inheritedFile,
	}
	if err := runTool(ctx, f, "", "mke2fs", args...); err != nil {
		return fmt.Errorf("%w%s", err, diskHint(err, f, size.bytes))
	}
	if opts.SquashOwners || os.Geteuid() != 0 {
		return squashOwners(ctx, f, tree)
	}
	return nil
}

func (o *Ext4Options) freeSpace() int64 {
	if o.FreeSpace == 0 {
		return DefaultFreeSpace
	}
	return o.FreeSpace
}

func resetFile(f *os.File, size int64) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	return f.Truncate(size)
}

// diskHint says what a full disk means, which mke2fs tells only in its own way.
func diskHint(err error, f *os.File, size int64) string {
	if !strings.Contains(err.Error(), "No space left on device") {
		return ""
	}
	return fmt.Sprintf(": %s is full: up to %d MiB are needed there (TMPDIR chooses another place)", filepath.Dir(f.Name()), size>>20)
}

// squashOwners sets the owner of every inode in use, by number: names could hold
// what debugfs takes for its own syntax. mke2fs has no option for it, and gives
// out inode numbers in sequence.
func squashOwners(ctx context.Context, f *os.File, tree treeSize) error {
	const rootInode, firstInode = 2, 11 // the first is lost+found
	var script strings.Builder
	squash := func(inode int64) {
		fmt.Fprintf(&script, "set_inode_field <%d> uid 0\nset_inode_field <%d> gid 0\n", inode, inode)
	}
	squash(rootInode)
	for i := range tree.entries + 1 {
		squash(firstInode + i)
	}
	return runTool(ctx, f, script.String(), "debugfs", "-w", "-f", "-", inheritedFile)
}

// inheritedFile is how a tool names the image: the first file that it inherits.
const inheritedFile = "/proc/self/fd/3"

// runTool runs a program of e2fsprogs on f. It is killed with ctx and with this
// process. An error is one line.
func runTool(ctx context.Context, f *os.File, input, name string, args ...string) error {
	path, err := findTool(name)
	if err != nil {
		return err
	}
	// The child dies with its thread, see childAttributes.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = childAttributes()
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stdin = strings.NewReader(input)
	// The messages are matched, see diskHint; and nothing needs to survive a
	// crash of the host.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MKE2FS_SYNC=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %s (%w)", name, strings.Join(lastLines(stderr.String(), 3), "; "), err)
	}
	return nil
}

// findTool looks in PATH and where Debian keeps what is root's; users have no
// sbin in their PATH, and need none for a file of their own.
func findTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot find %s: apt-get install e2fsprogs", name)
}

const (
	ext4Block     = 4096
	ext4InodeSize = 256
	ext4GroupSize = 128 << 20 // with blocks of 4 KiB
)

// treeSize is what a directory takes in an ext4 file system.
type treeSize struct {
	blocks  int64 // of content, without inodes
	entries int64 // names below the directory: at least the number of inodes
}

// measureTree also finds what could not be read, before mke2fs stops half-way.
func measureTree(dir string) (treeSize, error) {
	if st, err := os.Stat(dir); err != nil {
		return treeSize{}, err
	} else if !st.IsDir() {
		return treeSize{}, errors.New("it is not a directory")
	}
	var t treeSize
	// The slash makes WalkDir follow a link that dir may be.
	err := filepath.WalkDir(dir+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			if err := checkReadable(path); err != nil {
				return err
			}
		}
		t.add(info)
		return nil
	})
	return t, err
}

func checkReadable(path string) error {
	if os.Geteuid() == 0 {
		return nil // root reads everything, and a rootfs has many files
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func (t *treeSize) add(info fs.FileInfo) {
	t.entries++
	switch {
	case info.Mode().IsRegular(), info.IsDir():
		// One more for extents, or for a directory that is denser on the host.
		t.blocks += (info.Size()+ext4Block-1)/ext4Block + 1
	case info.Mode()&fs.ModeSymlink != 0:
		t.blocks++
	}
}

type imageSize struct {
	bytes  int64
	inodes int64
}

// imageSize adds the file system's own needs to the tree's and to the free space.
func (t treeSize) imageSize(free int64) imageSize {
	const (
		reservedInodes = 16
		bytesPerInode  = 16 << 10 // mke2fs's usual ratio, for the free space
		slack          = 4 << 20
	)
	inodes := t.entries + reservedInodes + max(1024, free/bytesPerInode)
	data := t.blocks*ext4Block + inodes*ext4InodeSize + free
	// Each group has two bitmaps and its part of rounded-up inode tables; some
	// have a copy of the superblock and of the group descriptors.
	groups := data/ext4GroupSize + 1
	data += groups * (4*ext4Block + groups*64)
	return imageSize{bytes: (data + data/64 + slack) &^ (ext4Block - 1), inodes: inodes}
}
