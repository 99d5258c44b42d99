//go:build linux

package rootstore

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// The limit of a directory on a disk is a project quota: the directory and all that is made beneath it belong to one project, quotactl(2). The project's number is the directory's
// inode number, so no two directories share one and nothing has to remember it.

// limit sets how many bytes may be beneath dir; 0 takes an earlier limit away. FAILED_PRECONDITION: its file system cannot hold it to that.
func limit(dir *os.File, bytes uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	attr, err := getAttributes(dir)
	limited := err == nil && attr.project != 0 && uint64(attr.project) == st.Ino
	switch {
	case bytes == 0 && !limited:
		return nil
	case err != nil:
		return noQuotas(dir)
	}
	if err := enforceQuotas(dir); err != nil {
		return err
	}
	if !limited {
		if err := makeProject(dir, attr, st.Ino); err != nil {
			return err
		}
	}
	return setQuota(dir, uint32(st.Ino), bytes)
}

func noQuotas(dir *os.File) error {
	return failure.New(errdefs.ErrFailedPrecondition,
		"limit: the file system of %s has no project quotas (for ext4: mke2fs -O quota,project -E quotatype=prjquota); a disk of its own is another way to a limit", dir.Name())
}

// makeProject makes dir a project. What is in a project only counts if it was made there, so nothing may be in dir.
func makeProject(dir *os.File, attr *attributes, inode uint64) error {
	switch {
	case inode > math.MaxUint32:
		return failure.New(errdefs.ErrFailedPrecondition, "limit: the inode number of %s is too large to be a project's", dir.Name())
	case attr.project != 0:
		return failure.New(errdefs.ErrFailedPrecondition, "limit: %s belongs to project %d", dir.Name(), attr.project)
	}
	names, err := dir.Readdirnames(-1)
	if err == nil {
		err = onlyLostAndFound(names)
	}
	if err != nil {
		return err
	}
	attr.project, attr.flags = uint32(inode), attr.flags|inheritProject
	return ioctl(dir, setAttributes, unsafe.Pointer(attr))
}

// onlyLostAndFound allows what mke2fs(8) makes.
func onlyLostAndFound(names []string) error {
	for _, name := range names {
		if name != "lost+found" {
			return failure.New(errdefs.ErrFailedPrecondition, "limit: there is something already (%s), which would not count", name)
		}
	}
	return nil
}

// attributes is struct fsxattr, ioctl_xfs_fsgetxattr(2).
type attributes struct {
	flags, extentSize, extents, project, copyExtentSize uint32
	_                                                   [8]byte
}

const (
	getAttributesRequest = 0x801c581f // FS_IOC_FSGETXATTR
	setAttributes        = 0x401c5820 // FS_IOC_FSSETXATTR
	inheritProject       = 0x200      // FS_XFLAG_PROJINHERIT
)

func getAttributes(dir *os.File) (*attributes, error) {
	attr := new(attributes)
	return attr, ioctl(dir, getAttributesRequest, unsafe.Pointer(attr))
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return fmt.Errorf("project of %s: %w", f.Name(), errno)
	}
	return nil
}

// The commands of quotactl(2) for project quotas, linux/quota.h and linux/dqblk_xfs.h.
const (
	projectQuota   = 2
	quotaOn        = 0x5801<<8 | projectQuota   // Q_XQUOTAON
	quotaState     = 0x5808<<8 | projectQuota   // Q_XGETQSTATV
	quotaLimits    = 0x800008<<8 | projectQuota // Q_SETQUOTA
	projectCounted = 1 << 4                     // FS_QUOTA_PDQ_ACCT
	projectLimited = 1 << 5                     // FS_QUOTA_PDQ_ENFD
)

// enforceQuotas makes sure that the file system counts what projects have, and holds them to their limits.
func enforceQuotas(dir *os.File) error {
	state := [160]byte{1} // struct fs_quota_statv, version 1; the flags are at 2
	err := quotactl(dir, quotaState, 0, unsafe.Pointer(&state))
	flags := binary.NativeEndian.Uint16(state[2:])
	switch {
	case err != nil || flags&projectCounted == 0:
		return noQuotas(dir)
	case flags&projectLimited != 0:
		return nil
	}
	on := uint32(projectLimited)
	return quotactl(dir, quotaOn, 0, unsafe.Pointer(&on))
}

// setQuota limits bytes, in the kernel's blocks of 1,024, and files.
func setQuota(dir *os.File, project uint32, bytes uint64) error {
	var block struct { // struct if_dqblk
		hardBytes, softBytes, bytes, hardFiles, softFiles, files, byteTime, fileTime uint64
		valid                                                                        uint32
	}
	block.hardBytes, block.valid = (bytes+1023)/1024, 1|4 // QIF_BLIMITS, QIF_ILIMITS
	if bytes != 0 {
		block.hardFiles = inodesOf(bytes)
	}
	return quotactl(dir, quotaLimits, project, unsafe.Pointer(&block))
}

func quotactl(dir *os.File, command uintptr, project uint32, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, dir.Fd(), command, uintptr(project), uintptr(arg), 0, 0); errno != 0 {
		return fmt.Errorf("quota of %s: %w", dir.Name(), errno)
	}
	return nil
}
