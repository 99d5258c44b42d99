package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxModuleSize bounds a decompressed module; the biggest in a
	// distribution's kernel have some 10 MiB.
	maxModuleSize = 256 << 20
	// maxModinfoSize bounds a .modinfo section; aliases make 100 KiB at most.
	maxModinfoSize = 4 << 20
)

// module is a loadable kernel module on the host.
type module struct {
	name string // with underscores, as the kernel calls it
	path string
	info modinfo
	size int64 // uncompressed
}

// modinfo is what a module says of itself in its .modinfo section.
type modinfo struct {
	depends []string // modules it needs, normalised
	softPre []string // modules it likes to find loaded, normalised
	release string   // kernel release it was built for, from vermagic
}

func readModule(name, path string) (*module, error) {
	m := &module{name: name, path: path}
	r, size, closeFile, err := openModule(path)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	defer closeFile()
	m.size = size
	if m.info, err = readModinfo(r); err != nil {
		return nil, fmt.Errorf("module %s: %s: %w", name, path, err)
	}
	return m, nil
}

// member is the module as a file at the guest's path. A compressed module
// is decompressed into the archive: the agent needs no decompressor then, and
// the archive's own compression does better.
func (m *module) member(guest string) *member {
	return &member{
		Header: Header{Name: strings.TrimPrefix(guest, "/"), Mode: typeRegular | 0o644, Size: m.size},
		origin: m.path,
		open: func() (io.ReadCloser, error) {
			r, size, closeFile, err := openModule(m.path)
			if err != nil {
				return nil, err
			}
			return readCloser{io.NewSectionReader(r, 0, size), closeFile}, nil
		},
	}
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

// openModule opens the module's uncompressed image and says how long it is.
func openModule(path string) (r io.ReaderAt, size int64, closeFile func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, nil, err
	}
	if strings.HasSuffix(path, ".ko") {
		st, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, 0, nil, err
		}
		return f, st.Size(), f.Close, nil
	}
	defer f.Close()
	image, err := decompressModule(f, path)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%s: %w", path, err)
	}
	return bytes.NewReader(image), int64(len(image)), func() error { return nil }, nil
}

func decompressModule(f io.Reader, path string) ([]byte, error) {
	var r io.Reader
	switch {
	case strings.HasSuffix(path, ".ko.gz"):
		zr, err := gzip.NewReader(f)
		if err != nil {
			return nil, err
		}
		r = zr
	case strings.HasSuffix(path, ".ko.zst"):
		zr, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModuleSize))
		if err != nil {
			return nil, err
		}
		defer zr.Close()
		r = zr
	default:
		return nil, errors.New("xz is not supported: decompress the modules first (find DIR -name '*.ko.xz' | xargs unxz)")
	}
	image, err := io.ReadAll(io.LimitReader(r, maxModuleSize+1))
	if err != nil {
		return nil, err
	}
	if len(image) > maxModuleSize {
		return nil, fmt.Errorf("has more than %d MiB when decompressed", maxModuleSize>>20)
	}
	return image, nil
}

// readModinfo reads the .modinfo section of a module's ELF image.
func readModinfo(r io.ReaderAt) (modinfo, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return modinfo{}, fmt.Errorf("not a kernel module: %v", err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return modinfo{}, errors.New("not a kernel module: no .modinfo section")
	}
	if s.Size > maxModinfoSize || s.FileSize > maxModinfoSize {
		return modinfo{}, fmt.Errorf("not a kernel module: a .modinfo section of %d bytes", max(s.Size, s.FileSize))
	}
	data, err := s.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("not a kernel module: .modinfo: %v", err)
	}
	return parseModinfo(string(data)), nil
}

// parseModinfo takes NUL-separated key=value pairs, of which a key may come
// several times. What it does not know it skips.
func parseModinfo(data string) modinfo {
	var info modinfo
	for pair := range strings.SplitSeq(data, "\x00") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "depends":
			info.depends = append(info.depends, names(strings.Split(value, ","))...)
		case "softdep":
			info.softPre = append(info.softPre, softPre(value)...)
		case "vermagic":
			info.release, _, _ = strings.Cut(value, " ")
		}
	}
	return info
}

// softPre takes the names behind "pre:" of a softdep line (modprobe.d(5)).
func softPre(value string) []string {
	var pre []string
	inPre := false
	for _, word := range strings.Fields(value) {
		switch {
		case strings.HasSuffix(word, ":"):
			inPre = word == "pre:"
		case inPre:
			pre = append(pre, word)
		}
	}
	return names(pre)
}

// names normalises module names and drops empty ones.
func names(raw []string) []string {
	var out []string
	for _, n := range raw {
		if n != "" {
			out = append(out, normalise(n))
		}
	}
	return out
}

// normalise spells a module's name as the kernel does: - and _ are one.
func normalise(name string) string { return strings.ReplaceAll(name, "-", "_") }
