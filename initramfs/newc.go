package initramfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of the format and of the kernel that reads it.
const (
	// MaxFileSize is the most that one file can hold, in bytes: newc keeps
	// sizes in 32 bits.
	MaxFileSize = 1<<32 - 1

	// maxNameSize bounds a name and a symbolic link's target with their NUL.
	// It is the kernel's PATH_MAX: init/initramfs.c skips longer ones silently.
	maxNameSize = 4096
)

// File types as st_mode has them (inode(7)). They are spelled out because a
// host that is not Linux builds archives too.
const (
	typeMask    = 0o170000
	typeSocket  = 0o140000
	typeSymlink = 0o120000
	typeRegular = 0o100000
	typeBlock   = 0o060000
	typeDir     = 0o040000
	typeChar    = 0o020000
	typeFIFO    = 0o010000
)

const trailerName = "TRAILER!!!"

// ErrWriteTooLong says that more was written to a file than its header announced.
var ErrWriteTooLong = errors.New("more bytes than the header's size")

// Header describes one member of an archive (cpio(5), "New ASCII Format").
// Times are not in it: they are always zero.
type Header struct {
	Name      string // relative to the root, without "./"; the root itself is "."
	Ino       uint32 // equal for the names of one hard-linked file
	Mode      uint32 // type and permissions as in st_mode
	UID, GID  uint32
	Nlink     uint32 // number of names; over 1 the kernel looks for earlier ones
	Size      int64  // bytes of content that follow; a symbolic link's are its target
	RdevMajor uint32 // of a device node
	RdevMinor uint32
}

// Writer writes a newc archive. After each WriteHeader exactly Header.Size bytes
// must be written. It starts no goroutine and does not buffer.
type Writer struct {
	w         io.Writer
	remaining int64 // content still to come
	padding   int   // zero bytes after it
	err       error // first error of w; the archive is lost then
}

// NewWriter returns a Writer on w, which stays the caller's to close.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteHeader begins the next member. It fails when the one before is incomplete,
// and when the format or the kernel cannot take what h says.
func (w *Writer) WriteHeader(h *Header) error {
	if err := h.check(); err != nil {
		return err
	}
	return w.writeHeader(h)
}

// Write adds content to the current member. Beyond the announced size it
// returns [ErrWriteTooLong].
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	tooLong := int64(len(p)) > w.remaining
	if tooLong {
		p = p[:w.remaining]
	}
	n, err := w.w.Write(p)
	w.remaining -= int64(n)
	if err != nil {
		w.err = err
		return n, err
	}
	if tooLong {
		return n, ErrWriteTooLong
	}
	return n, nil
}

// Close writes the trailer. It does not close the underlying writer.
func (w *Writer) Close() error {
	return w.writeHeader(&Header{Name: trailerName, Nlink: 1})
}

func (w *Writer) writeHeader(h *Header) error {
	if err := w.finishMember(); err != nil {
		return err
	}
	const magic = "070701"
	nameSize := len(h.Name) + 1
	head := fmt.Appendf(nil, "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		magic, h.Ino, h.Mode, h.UID, h.GID, h.Nlink, 0, h.Size,
		0, 0, h.RdevMajor, h.RdevMinor, nameSize, 0, h.Name)
	head = append(head, zeros[:pad4(int64(len(head)))]...)
	if _, err := w.w.Write(head); err != nil {
		w.err = err
		return err
	}
	w.remaining, w.padding = h.Size, pad4(h.Size)
	return nil
}

func (w *Writer) finishMember() error {
	if w.err != nil {
		return w.err
	}
	if w.remaining > 0 {
		return fmt.Errorf("content is %d bytes short of the header's size", w.remaining)
	}
	if w.padding == 0 {
		return nil
	}
	_, w.err = w.w.Write(zeros[:w.padding])
	w.padding = 0
	return w.err
}

func (h *Header) check() error {
	switch {
	case h.Name == "":
		return errors.New("empty name")
	case h.Name == trailerName:
		return fmt.Errorf("the name %s would end the archive", trailerName)
	case strings.IndexByte(h.Name, 0) >= 0:
		return errors.New("name contains a NUL byte")
	case len(h.Name)+1 > maxNameSize:
		return fmt.Errorf("name is %d bytes long; the kernel takes %d", len(h.Name), maxNameSize-1)
	case h.Size < 0:
		return errors.New("negative size")
	case h.Size > MaxFileSize:
		return fmt.Errorf("content is %d bytes long; the newc format takes %d", h.Size, int64(MaxFileSize))
	}
	if h.Mode&typeMask == typeSymlink && h.Size+1 > maxNameSize {
		return fmt.Errorf("link target is %d bytes long; the kernel takes %d", h.Size, maxNameSize-1)
	}
	return nil
}

// pad4 returns how many bytes bring n to a multiple of four.
func pad4(n int64) int { return int(-n & 3) }

var zeros [4]byte
