//go:build linux

package relay

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

// minBudget is the least useful budget in bytes.
const minBudget = 1 << 20

// Budget bounds the memory of all Sets of an agent together: what is not acknowledged, and what is on its way to a process. Over it, streams are read more slowly,
// or not at all. The memory is mapped outside of Go's heap, so it goes back to the guest as soon as it is not needed.
//
// Beside it, half as much again is for pipes larger than the kernel makes them; a stream for which nothing of that is left has an ordinary one.
type Budget struct {
	pool  *stdio.Pool
	pipes atomic.Int64 // bytes left for large pipes
}

// NewBudget makes a budget of so many bytes. The least is 1 MiB. It needs no closing.
func NewBudget(bytes int64) *Budget {
	bytes = max(bytes, minBudget)
	b := &Budget{pool: stdio.NewPool(bytes, mapBlock, unmapBlock)}
	b.pipes.Store(max(bytes/2, largePipe))
	return b
}

// takePipe reports whether one more pipe may be large. Then givePipe ends that.
func (b *Budget) takePipe() bool {
	if b.pipes.Add(-largePipe) >= 0 {
		return true
	}
	b.givePipe()
	return false
}

func (b *Budget) givePipe() { b.pipes.Add(largePipe) }

// Used gives the bytes that streams hold now.
func (b *Budget) Used() int64 { return b.pool.Used() }

// mapBlock falls back to the heap: a guest that cannot map 64 KiB has other worries, but its streams shall not be the ones to fail.
func mapBlock(size int) []byte {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, size)
	}
	return b
}

// unmapBlock refuses what mapBlock did not map, and leaves that to the garbage collector.
func unmapBlock(b []byte) { _ = unix.Munmap(b) }
