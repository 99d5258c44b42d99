package initramfs

import (
	"errors"
	"io/fs"
	"syscall"
)

// setOwnership takes from a host file what fs.FileInfo does not carry: ids,
// device number, and the identity that hard links share.
func (m *member) setOwnership(info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the file system does not tell owner and device")
	}
	m.UID, m.GID = st.Uid, st.Gid
	switch m.Mode & typeMask {
	case typeChar, typeBlock:
		m.RdevMajor, m.RdevMinor = major(uint64(st.Rdev)), minor(uint64(st.Rdev))
	}
	if st.Nlink > 1 && !m.isDir() {
		m.link = linkID{uint64(st.Dev), st.Ino}
	}
	return nil
}

// major and minor undo makedev(3) as glibc and the kernel's huge encoding have it.
func major(dev uint64) uint32 { return uint32(dev>>8&0xfff | dev>>32&0xfffff000) }
func minor(dev uint64) uint32 { return uint32(dev&0xff | dev>>12&0xffffff00) }
