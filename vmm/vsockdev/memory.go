package vsockdev

import (
	"errors"
	"fmt"
)

// maxRegions is how many memory regions a front end may name without VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS.
const maxRegions = 8

// region is a piece of guest memory that is mapped here.
type region struct {
	guest uint64 // first guest-physical address
	user  uint64 // first address in the front end's own address space
	mem   []byte
}

// memory is the guest's memory as one SET_MEM_TABLE message described it.
type memory struct {
	regions []region
	unmap   func() error
}

// close unmaps the memory. Nobody may hold a slice of it any more.
func (m *memory) close() error {
	if m == nil || m.unmap == nil {
		return nil
	}
	unmap := m.unmap
	m.regions, m.unmap = nil, nil
	return unmap()
}

// guestSlice returns the bytes at a guest-physical address: n of them, or fewer, at least one, where the region ends
// before. It returns nil when the address is in no region or n is 0.
func (m *memory) guestSlice(addr, n uint64) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		off := addr - r.guest // wraps around to a large number when addr is below the region
		if off < uint64(len(r.mem)) {
			return r.mem[off : off+min(n, uint64(len(r.mem))-off)]
		}
	}
	return nil
}

// userSlice returns the n bytes at an address of the front end's address space, or nil when they are not all in one region.
func (m *memory) userSlice(addr, n uint64) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		off := addr - r.user
		size := uint64(len(r.mem))
		if off < size && n <= size-off {
			return r.mem[off : off+n]
		}
	}
	return nil
}

// regionSpec is one entry of a SET_MEM_TABLE message.
type regionSpec struct {
	guest, size, user, offset uint64
}

var errBadRegion = errors.New("memory region out of range")

// check refuses what would overflow an address or the file's offset.
func (s regionSpec) check() error {
	const limit = 1 << 52 // the x86 physical address limit; keeps every sum below within an int64
	if s.size == 0 || s.size > limit || s.offset > limit || s.guest > limit || s.user+s.size < s.user {
		return fmt.Errorf("%w: guest %#x size %#x user %#x offset %#x", errBadRegion, s.guest, s.size, s.user, s.offset)
	}
	return nil
}
