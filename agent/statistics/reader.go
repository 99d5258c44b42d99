//go:build linux

package statistics

import (
	"bytes"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/rawfile"
)

// bufferSize bounds what is read of a file, in bytes. The largest, memory.stat, has some 2,000; a line of /proc/PID/net/dev has 130.
const bufferSize = 16 << 10

// Reader reads small files one after the other. It is not for several goroutines.
type Reader struct {
	buf       [bufferSize]byte
	pageSizes []string // of huge pages, as in the names of files: "2MB"
}

// NewReader makes a Reader. Nothing is to be closed.
func NewReader() *Reader { return &Reader{pageSizes: hugePageSizes()} }

// hugePageSizes lists the sizes of huge pages that the kernel has.
func hugePageSizes() []string {
	dirs, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil
	}
	var sizes []string
	for _, d := range dirs {
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(d.Name(), "hugepages-"), "kB"), 10, 64)
		switch {
		case err != nil:
		case kib >= 1<<20:
			sizes = append(sizes, strconv.FormatUint(kib>>20, 10)+"GB")
		case kib >= 1<<10:
			sizes = append(sizes, strconv.FormatUint(kib>>10, 10)+"MB")
		default:
			sizes = append(sizes, strconv.FormatUint(kib, 10)+"KB")
		}
	}
	return sizes
}

// read gives the beginning of a file in a directory, until the next read; nothing if it cannot be read: a controller or a kernel's option may be missing.
func (r *Reader) read(dir int, name string) []byte {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, _ := io.ReadFull(rawfile.File(fd), r.buf[:])
	return r.buf[:n]
}

// value reads a file that holds one number.
func (r *Reader) value(dir int, name string) uint64 { return number(r.read(dir, name)) }

// limit reads a file that holds a number or "max". No file is no limit.
func (r *Reader) limit(dir int, name string) uint64 {
	b := r.read(dir, name)
	if len(b) == 0 || b[0] == 'm' {
		return math.MaxUint64
	}
	return number(b)
}

// keyed calls f for each line "key value". The key is f's only while it runs.
func (r *Reader) keyed(dir int, name string, f func(key []byte, value uint64)) {
	for line := range bytes.Lines(r.read(dir, name)) {
		if key, value, ok := bytes.Cut(line, []byte(" ")); ok {
			f(key, number(value))
		}
	}
}

// number reads the digits at the beginning of b.
func number(b []byte) (n uint64) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return n
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
