package initramfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// member is one future entry of the archive. A nil open means no content.
type member struct {
	Header
	open   func() (io.ReadCloser, error)
	origin string // for messages: the host file or what else it comes from
	link   linkID // equal for names of one file; zero: it has one name
	parent bool   // made only because something lies below it
}

// linkID tells the files of the host apart. Device 0 does not exist.
type linkID struct{ dev, ino uint64 }

// layout is the set of members by name.
type layout struct {
	members map[string]*member
}

func newLayout() *layout { return &layout{members: make(map[string]*member)} }

// add puts m in and makes its parents. It applies the rule for names that come twice.
func (l *layout) add(m *member) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("%s (%s): %w", display(m.Name), m.origin, err)
	}
	if err := l.addParents(m); err != nil {
		return err
	}
	old := l.members[m.Name]
	switch {
	case old == nil, old.parent && m.isDir():
		l.members[m.Name] = m
		return nil
	case old.isDir() && m.isDir():
		return nil
	}
	return fmt.Errorf("%s comes twice: from %s and from %s", display(m.Name), old.origin, m.origin)
}

func (l *layout) addParents(m *member) error {
	for dir := path.Dir(m.Name); dir != "."; dir = path.Dir(dir) {
		old := l.members[dir]
		if old == nil {
			l.members[dir] = &member{
				Header: Header{Name: dir, Mode: typeDir | 0o755},
				origin: "the parent of " + display(m.Name),
				parent: true,
			}
			continue
		}
		if !old.isDir() {
			return fmt.Errorf("%s (%s) cannot lie below %s (%s), which is not a directory",
				display(m.Name), m.origin, display(dir), old.origin)
		}
	}
	return nil
}

func (m *member) isDir() bool { return m.Mode&typeMask == typeDir }

func (l *layout) addFiles(files []File) error {
	for _, f := range files {
		m, err := f.member()
		if err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
		if err := l.add(m); err != nil {
			return err
		}
	}
	return nil
}

// write numbers the members and writes them in the order of their names, each
// parent before what it holds.
func (l *layout) write(w io.Writer) error {
	order := l.sorted()
	number(order)
	cw := NewWriter(w)
	for _, m := range order {
		if err := m.write(cw); err != nil {
			return fmt.Errorf("%s (%s): %w", display(m.Name), m.origin, err)
		}
	}
	return cw.Close()
}

func (l *layout) sorted() []*member {
	order := make([]*member, 0, len(l.members))
	for _, m := range l.members {
		order = append(order, m)
	}
	slices.SortFunc(order, func(a, b *member) int {
		if a.Name == "." || b.Name == "." {
			return boolToInt(b.Name == ".") - boolToInt(a.Name == ".")
		}
		return strings.Compare(a.Name, b.Name)
	})
	return order
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// number gives every file an inode number and a link count, and leaves the
// content of a hard-linked file to the last of its names, as GNU cpio does.
func number(order []*member) {
	groups := make(map[linkID][]*member)
	next := uint32(1)
	for _, m := range order {
		m.Nlink = 1
		if m.isDir() {
			m.Nlink = 2
		}
		if group := groups[m.link]; m.link != (linkID{}) && len(group) > 0 {
			m.Ino = group[0].Ino
		} else {
			m.Ino = next
			next++
		}
		if m.link != (linkID{}) {
			groups[m.link] = append(groups[m.link], m)
		}
	}
	for _, group := range groups {
		for i, m := range group {
			m.Nlink = uint32(len(group))
			if i < len(group)-1 {
				m.Size, m.open = 0, nil
			}
		}
	}
}

func (m *member) write(cw *Writer) error {
	if m.open == nil {
		return cw.WriteHeader(&m.Header)
	}
	r, err := m.open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := cw.WriteHeader(&m.Header); err != nil {
		return err
	}
	n, err := io.Copy(cw, r)
	switch {
	case errors.Is(err, ErrWriteTooLong):
		return fmt.Errorf("grew beyond %d bytes while it was read", m.Size)
	case err != nil:
		return err
	case n != m.Size:
		return fmt.Errorf("shrank from %d to %d bytes while it was read", m.Size, n)
	}
	return nil
}

// guestName turns a path in the guest into a member's name.
func guestName(p string) (string, error) {
	name := strings.TrimPrefix(p, "/")
	switch {
	case p == "":
		return "", errors.New("empty path")
	case name == "":
		return ".", nil
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("path contains a NUL byte")
	case strings.HasSuffix(name, "/"):
		return "", errors.New("path ends with a slash")
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", errors.New(`path contains ".."`)
	case path.Clean(name) != name:
		return "", fmt.Errorf("path is not in its shortest form, %q", "/"+path.Clean(name))
	}
	return name, nil
}

// display is a member's name as the guest sees it, safe to print.
func display(name string) string {
	full := "/" + strings.TrimPrefix(name, ".")
	if name != "." {
		full = "/" + name
	}
	if strings.ContainsFunc(full, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
		return fmt.Sprintf("%q", full)
	}
	return full
}

// member turns f into a member, with the size and defaults of its source.
func (f File) member() (*member, error) {
	name, err := guestName(f.Path)
	if err != nil {
		return nil, err
	}
	kind, err := typeOf(f.Mode)
	if err != nil {
		return nil, err
	}
	m := &member{
		Header: Header{
			Name: name, Mode: kind | permissions(f.Mode),
			UID: f.UID, GID: f.GID, RdevMajor: f.Major, RdevMinor: f.Minor,
		},
		origin: "the spec",
	}
	if err := f.fill(m); err != nil {
		return nil, err
	}
	if m.Mode&0o7777 == 0 {
		m.Mode |= defaultPermissions(kind)
	}
	return m, nil
}

// fill gives m the file's content.
func (f File) fill(m *member) error {
	kind := m.Mode & typeMask
	switch {
	case f.Source != "" && f.Content != nil:
		return errors.New("has both a source and content")
	case f.Source != "" && kind != typeRegular:
		return errors.New("has a source but is not a regular file")
	case len(f.Content) > 0 && kind != typeRegular && kind != typeSymlink:
		return errors.New("has content but is neither a regular file nor a symbolic link")
	case kind == typeSymlink && len(f.Content) == 0:
		return errors.New("is a symbolic link without a target")
	}
	if f.Source != "" {
		return fillFromHost(m, f.Source)
	}
	m.setContent(f.Content)
	return nil
}

func (m *member) setContent(content []byte) {
	m.Size = int64(len(content))
	if len(content) == 0 {
		return
	}
	m.open = func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(string(content))), nil
	}
}

func fillFromHost(m *member, source string) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("source %s is not a regular file", source)
	}
	m.origin = source
	m.Size = st.Size()
	m.open = func() (io.ReadCloser, error) { return os.Open(source) }
	if m.Mode&0o7777 == 0 {
		m.Mode |= permissions(st.Mode())
	}
	return nil
}

func defaultPermissions(kind uint32) uint32 {
	switch kind {
	case typeDir:
		return 0o755
	case typeSymlink:
		return 0o777
	}
	return 0o644
}

func typeOf(mode fs.FileMode) (uint32, error) {
	if mode&0o7000 != 0 {
		return 0, fmt.Errorf("mode %#o has bits that fs.FileMode spells otherwise: use fs.ModeSetuid, ModeSetgid and ModeSticky", uint32(mode))
	}
	switch mode.Type() {
	case 0:
		return typeRegular, nil
	case fs.ModeDir:
		return typeDir, nil
	case fs.ModeSymlink:
		return typeSymlink, nil
	case fs.ModeNamedPipe:
		return typeFIFO, nil
	case fs.ModeSocket:
		return typeSocket, nil
	case fs.ModeDevice:
		return typeBlock, nil
	case fs.ModeDevice | fs.ModeCharDevice:
		return typeChar, nil
	}
	return 0, fmt.Errorf("mode %v has no type that an archive can hold", mode)
}

// permissions are the lower twelve bits of st_mode.
func permissions(mode fs.FileMode) uint32 {
	p := uint32(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		p |= 0o4000
	}
	if mode&fs.ModeSetgid != 0 {
		p |= 0o2000
	}
	if mode&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	return p
}
