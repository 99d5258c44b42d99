// Package kernelimage reads what a Linux kernel image says of itself: the
// release and the architecture. It knows the x86 bzImage, the arm64 Image (also
// gzipped or as an EFI zboot image) and ELF, enough to say in one line that
// a kernel is the wrong one.
package kernelimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Info describes an image.
type Info struct {
	// Release is what uname -r would print, for example
	// "6.1.0-44-cloud-amd64"; empty where the image does not tell.
	Release string
	// Arch is the architecture as GOARCH spells it: amd64, arm64, 386, …
	Arch string
}

// ErrNotKernel says that a file is not a kernel image of a known form.
var ErrNotKernel = errors.New("not a Linux kernel image")

// Read reads the image at path. An error names the path, and is [ErrNotKernel]
// when the file could be read but is something else.
func Read(path string) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	info, err := Parse(f)
	if err != nil {
		return Info{}, fmt.Errorf("kernel %s: %w", path, err)
	}
	return info, nil
}

// Parse reads an image from r.
func Parse(r io.ReaderAt) (Info, error) {
	head := make([]byte, 1024)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Info{}, err
	}
	head = head[:n]
	switch {
	case at(head, 0, "\x7fELF"):
		return parseELF(r)
	case at(head, 0x1fe, "\x55\xaa") && at(head, 0x202, "HdrS"):
		return parseBzImage(r, head)
	case at(head, 0x38, "ARM\x64"):
		return Info{Arch: "arm64"}, nil
	case at(head, 0, "MZ") && at(head, 4, "zimg"):
		return parseZboot(head)
	case at(head, 0, "\x1f\x8b"):
		return parseGzip(r)
	}
	return Info{}, ErrNotKernel
}

func at(head []byte, offset int, magic string) bool {
	return len(head) >= offset && bytes.HasPrefix(head[offset:], []byte(magic))
}

// parseBzImage follows Documentation/arch/x86/boot.rst of the kernel.
func parseBzImage(r io.ReaderAt, head []byte) (Info, error) {
	const (
		protocolAt      = 0x206
		kernelVersionAt = 0x20e // pointer to the version string, less 0x200
		xloadflagsAt    = 0x236 // since protocol 2.12
		xlfKernel64     = 1 << 0
	)
	if len(head) < xloadflagsAt+2 {
		return Info{}, ErrNotKernel
	}
	info := Info{Arch: "386"}
	protocol := binary.LittleEndian.Uint16(head[protocolAt:])
	if protocol >= 0x20c && binary.LittleEndian.Uint16(head[xloadflagsAt:])&xlfKernel64 != 0 {
		info.Arch = "amd64"
	}
	if p := binary.LittleEndian.Uint16(head[kernelVersionAt:]); p != 0 {
		release, err := readWord(r, int64(p)+0x200)
		if err != nil {
			return Info{}, err
		}
		info.Release = release
	}
	return info, nil
}

// readWord reads up to the first space or NUL; the version string goes on with
// the builder's name.
func readWord(r io.ReaderAt, offset int64) (string, error) {
	buf := make([]byte, 128)
	n, err := r.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	word := string(buf[:n])
	if end := strings.IndexAny(word, " \x00"); end >= 0 {
		word = word[:end]
	}
	return strings.ToValidUTF8(word, "?"), nil
}

// parseZboot reads the machine field of an EFI image's COFF header (PE/COFF
// specification, section 3.3).
func parseZboot(head []byte) (Info, error) {
	const peOffsetAt = 0x3c
	if len(head) < peOffsetAt+4 {
		return Info{}, ErrNotKernel
	}
	pe := int64(binary.LittleEndian.Uint32(head[peOffsetAt:]))
	if pe+6 > int64(len(head)) || !at(head, int(pe), "PE\x00\x00") {
		return Info{}, ErrNotKernel
	}
	switch machine := binary.LittleEndian.Uint16(head[pe+4:]); machine {
	case 0xaa64:
		return Info{Arch: "arm64"}, nil
	case 0x5064:
		return Info{Arch: "riscv64"}, nil
	default:
		return Info{Arch: fmt.Sprintf("PE machine %#x", machine)}, nil
	}
}

func parseELF(r io.ReaderAt) (Info, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return Info{}, ErrNotKernel
	}
	return Info{Arch: ArchOf(f.Machine)}, nil
}

// parseGzip looks into a compressed image, of which only the start is needed.
func parseGzip(r io.ReaderAt) (Info, error) {
	zr, err := gzip.NewReader(io.NewSectionReader(r, 0, 1<<62))
	if err != nil {
		return Info{}, ErrNotKernel
	}
	head := make([]byte, 64)
	if _, err := io.ReadFull(zr, head); err != nil || !at(head, 0x38, "ARM\x64") {
		return Info{}, ErrNotKernel
	}
	return Info{Arch: "arm64"}, nil
}

// ArchOf spells an ELF machine as GOARCH does, if Go knows it.
func ArchOf(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_386:
		return "386"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_PPC64:
		return "ppc64le"
	case elf.EM_S390:
		return "s390x"
	}
	return m.String()
}
