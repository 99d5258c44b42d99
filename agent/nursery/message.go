//go:build linux

package nursery

// #include "request.h"
import "C"

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A message is a struct request of request.h with its sections. Its memory is made of words, so that it is aligned as the struct needs it.
type message struct {
	words []uint64
	end   int // bytes in use
}

// words of a message that is not expected to grow.
const messageWords = 256

// maxFiles is how many files a message has at most.
const maxFiles = C.REQUEST_FILES_MAX

const headerSize = int(unsafe.Sizeof(C.struct_request{}))

func (m *message) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(m.words))), m.end)
}

func (m *message) header() *C.struct_request {
	return (*C.struct_request)(unsafe.Pointer(unsafe.SliceData(m.words)))
}

// setEntry names the ledger entry; each sending has its own.
func (m *message) setEntry(entry int) { m.header().entry = C.uint32_t(entry) }

// reserve adds a section of n zero bytes and gives its offset.
func (m *message) reserve(n int) int {
	off := (m.end + 7) &^ 7
	m.end = off + n
	need := (m.end + 7) / 8
	if need > len(m.words) {
		grown := make([]uint64, max(need, 2*len(m.words)))
		copy(grown, m.words)
		m.words = grown
	}
	return off
}

// addBytes adds a section of count items.
func (m *message) addBytes(b []byte, count int) C.struct_span {
	if len(b) == 0 {
		return C.struct_span{}
	}
	off := m.reserve(len(b))
	copy(m.bytes()[off:], b)
	return C.struct_span{off: C.uint32_t(off), count: C.uint32_t(count)}
}

// addStrings adds a section of strings that end with NUL.
func (m *message) addStrings(list ...string) C.struct_span {
	n := len(list)
	for _, s := range list {
		n += len(s)
	}
	if n == 0 {
		return C.struct_span{}
	}
	off := m.reserve(n)
	rest := m.bytes()[off:]
	for _, s := range list {
		rest = rest[copy(rest, s)+1:]
	}
	return C.struct_span{off: C.uint32_t(off), count: C.uint32_t(len(list))}
}

func (m *message) addOptional(s string) C.struct_span {
	if s == "" {
		return C.struct_span{}
	}
	return m.addStrings(s)
}

// asBytes gives the memory of a slice of fixed-size values.
func asBytes[T any](s []T) []byte {
	var item T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(item)))
}

func setBytes(set *unix.CPUSet) []byte {
	if set == nil {
		return nil
	}
	return asBytes(set[:])
}

// isLong says whether the message goes in a memfd.
func (m *message) isLong() bool { return m.end > C.REQUEST_INLINE_MAX }

// inline is what goes into the datagram itself.
func (m *message) inline() []byte {
	if m.isLong() {
		return m.bytes()[:headerSize]
	}
	return m.bytes()
}

// memory puts a long message into a memfd, which the caller closes.
func (m *message) memory() (*os.File, error) {
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	memory := os.NewFile(uintptr(fd), "request")
	if _, err := memory.Write(m.bytes()); err != nil {
		memory.Close()
		return nil, err
	}
	return memory, nil
}

// verify is request_check: the nursery's own judgement of a message.
func (m *message) verify() error {
	if m.end < headerSize {
		return unix.EPROTO
	}
	if errno := C.request_check(m.header(), C.uint32_t(m.end)); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
