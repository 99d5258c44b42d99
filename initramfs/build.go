package initramfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bellhop-vm/bellhop/initramfs/kernelimage"
)

// Where the guest finds its modules.
const (
	// ModuleListPath is the file that lists the modules in load order, one
	// absolute path a line. It exists, possibly empty, in every archive of Build.
	ModuleListPath = "/etc/bellhop/modules"

	// OnDemandDir holds a list of the same form for each module that is loaded
	// only when something needs it, under the module's name.
	OnDemandDir = "/etc/bellhop/modules.d"

	// ModulesDir holds the modules, flat, uncompressed. It lies below /usr so
	// that a tree whose /lib is a link to usr/lib can be added.
	ModulesDir = "/usr/lib/bellhop/modules"
)

// Spec says what goes into an archive. The zero value of every field but Agent
// means "none" or the default.
type Spec struct {
	// Agent is the host path of a static executable (or of a script); it
	// becomes /init with mode 0755. Empty: there is no /init, unless Files
	// or Trees bring one.
	Agent string

	// ModulesDir is a lib/modules/VERSION directory. Modules are the names of
	// those wanted, with - or _ alike; what they depend on is added. A module
	// that is built into the kernel (modules.builtin) counts as loaded.
	ModulesDir string
	Modules    []string

	// OnDemand are the names of modules that the agent loads when something
	// needs them, such as a file system of that name. One that the kernel does
	// not have is left out.
	OnDemand []string

	// Kernel is the image that will boot the archive. When it is set, modules
	// and agent are checked against it.
	Kernel string

	Files []File
	Trees []Tree

	Compression Compression
}

// File is one extra member of the archive.
type File struct {
	Path string // in the guest; missing parents are made with mode 0755

	// Source is a host file whose bytes the member gets, Content the bytes
	// themselves: at most one of them. A symbolic link has its target in Content.
	Source  string
	Content []byte

	// Mode has the type (regular file, fs.ModeDir, fs.ModeSymlink,
	// fs.ModeNamedPipe, fs.ModeDevice with or without fs.ModeCharDevice) and
	// the permissions with setuid, setgid and sticky. Zero permissions are
	// Source's, or 0755 for a directory and 0644 for anything else.
	Mode fs.FileMode

	UID, GID     uint32
	Major, Minor uint32 // of a device
}

// Tree is a directory of the host that is copied whole: files, directories,
// links (hard links stay hard links), FIFOs, sockets and devices, on one file
// system or several. Extended attributes are lost, since newc has no place for
// them, and symbolic links are not followed.
type Tree struct {
	HostDir  string
	GuestDir string // where its content goes; "" and "/" are the root

	// KeepOwners keeps user and group ids. Without it everything belongs to
	// root, so that the bytes do not depend on who unpacked the tree.
	KeepOwners bool
}

// Build writes the archive that spec describes to w.
//
// A directory may come from several parts of the spec, and then has the mode
// that was named first: by the table of base directories, by Files, by Trees in
// their order. Anything else may come only once. An error is one line that
// names the file, module or member at fault; w then holds a part of an archive.
func Build(w io.Writer, spec Spec) error {
	if err := build(w, spec); err != nil {
		return fmt.Errorf("cannot build initramfs: %w", err)
	}
	return nil
}

// BuildFile writes the archive to path, with mode 0644. The file appears
// complete or not at all: it is made beside path under a temporary name.
func BuildFile(path string, spec Spec) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot build initramfs: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := Build(f, spec); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return fmt.Errorf("cannot build initramfs: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot build initramfs: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("cannot build initramfs: %w", err)
	}
	return nil
}

func build(w io.Writer, spec Spec) error {
	l, err := layoutOf(spec)
	if err != nil {
		return err
	}
	zw, err := spec.Compression.writer(w)
	if err != nil {
		return err
	}
	if err := l.write(zw); err != nil {
		zw.Close()
		return err
	}
	return zw.Close()
}

// layoutOf collects all members without reading the content of any but the
// modules' descriptions, so that most errors come before the first byte.
func layoutOf(spec Spec) (*layout, error) {
	target, err := targetOf(spec.Kernel)
	if err != nil {
		return nil, err
	}
	l := newLayout()
	for _, add := range []func() error{
		l.addBase,
		func() error { return l.addAgent(spec.Agent, target) },
		func() error { return l.addModules(spec, target) },
		func() error { return l.addFiles(spec.Files) },
		func() error { return l.addTrees(spec.Trees) },
	} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// target is the kernel that an archive is for; its zero value is any kernel.
type target struct {
	path, release, arch string
}

func targetOf(kernel string) (target, error) {
	if kernel == "" {
		return target{}, nil
	}
	info, err := kernelimage.Read(kernel)
	if err != nil {
		return target{}, err
	}
	return target{path: kernel, release: info.Release, arch: info.Arch}, nil
}

// baseMembers is what the kernel and the agent need before anything is mounted.
// The root's own mode matters: a tmpfs root is 01777, and containers with a user
// namespace can then not be made.
var baseMembers = []File{
	{Path: "/", Mode: fs.ModeDir | 0o755},
	{Path: "/dev", Mode: fs.ModeDir | 0o755},
	{Path: "/dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
	{Path: "/dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
	{Path: "/etc", Mode: fs.ModeDir | 0o755},
	{Path: "/proc", Mode: fs.ModeDir | 0o555},
	{Path: "/run", Mode: fs.ModeDir | 0o755},
	{Path: "/sys", Mode: fs.ModeDir | 0o555},
	{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
}

func (l *layout) addBase() error { return l.addFiles(baseMembers) }

func (l *layout) addAgent(path string, t target) error {
	if path == "" {
		return nil
	}
	if err := checkAgent(path, t); err != nil {
		return err
	}
	return l.addFiles([]File{{Path: "/init", Source: path, Mode: 0o755}})
}
