package initramfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

func (l *layout) addTrees(trees []Tree) error {
	for _, t := range trees {
		if err := l.addTree(t); err != nil {
			return fmt.Errorf("tree %s: %w", t.HostDir, err)
		}
	}
	return nil
}

func (l *layout) addTree(t Tree) error {
	root, err := treeRoot(t)
	if err != nil {
		return err
	}
	return filepath.WalkDir(t.HostDir, func(host string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.HostDir, host)
		if err != nil {
			return err
		}
		m, err := treeMember(host, path.Join(root, filepath.ToSlash(rel)), d)
		if err != nil {
			return err
		}
		if !t.KeepOwners {
			m.UID, m.GID = 0, 0
		}
		return l.add(m)
	})
}

func treeRoot(t Tree) (string, error) {
	st, err := os.Stat(t.HostDir)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", fmt.Errorf("is not a directory")
	}
	if t.GuestDir == "" {
		return ".", nil
	}
	name, err := guestName(t.GuestDir)
	if err != nil {
		return "", fmt.Errorf("guest directory %q: %w", t.GuestDir, err)
	}
	return name, nil
}

// treeMember describes the host's file as a member called name.
func treeMember(host, name string, d fs.DirEntry) (*member, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	if d.Type()&fs.ModeSymlink != 0 && name == "." {
		// The tree's own directory was named through a link.
		if info, err = os.Stat(host); err != nil {
			return nil, err
		}
	}
	kind, err := typeOf(info.Mode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", host, err)
	}
	m := &member{Header: Header{Name: name, Mode: kind | permissions(info.Mode())}, origin: host}
	if err := m.setOwnership(info); err != nil {
		return nil, fmt.Errorf("%s: %w", host, err)
	}
	switch kind {
	case typeRegular:
		m.Size = info.Size()
		m.open = func() (io.ReadCloser, error) { return os.Open(host) }
	case typeSymlink:
		target, err := os.Readlink(host)
		if err != nil {
			return nil, err
		}
		m.setContent([]byte(target))
	}
	return m, nil
}
