package stdio

import "sync"

const (
	// BlockSize is the size of an ordinary block in bytes, SmallBlockSize that of the block which is never refused.
	BlockSize      = 64 << 10
	SmallBlockSize = 4 << 10

	// shareDivisor sets how much of the free budget one ring may hold: an eighth. Rings that nobody empties then leave room for others.
	shareDivisor = 8

	// keepBlocks is how many free blocks a pool keeps while others are in use, keepIdle when none is.
	keepBlocks = 32
	keepIdle   = 16
)

// Pool is the memory of many rings: blocks under one budget. The zero value is not usable; a nil *Pool has no limit and allocates from the heap.
//
// A ring may take an ordinary block as long as it holds less than an eighth of what is free (the dynamic threshold of shared-memory switches), so rings that nobody empties
// never take all. A ring that holds nothing always gets a small block, beyond the limit if need be, so every stream moves.
type Pool struct {
	limit int64
	alloc func(size int) []byte
	free  func([]byte)

	mu   sync.Mutex
	used int64
	kept [][]byte // of BlockSize
}

// NewPool makes a pool of limit bytes. alloc gives memory of exactly the size asked for and free takes it back; both nil mean the heap. They are called without
// locks, and the pool never uses a block after it has freed it.
func NewPool(limit int64, alloc func(size int) []byte, free func([]byte)) *Pool {
	if alloc == nil {
		alloc = newBlock
	}
	if free == nil {
		free = func([]byte) {}
	}
	return &Pool{limit: limit, alloc: alloc, free: free}
}

// Used gives the bytes in blocks that rings hold now.
func (p *Pool) Used() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

func newBlock(size int) []byte { return make([]byte, size) }

// get gives a block for a ring that holds so many bytes and wants at most want more; nil if it must make do with what it has.
func (p *Pool) get(held, want int) []byte {
	if p == nil {
		return newBlock(blockSizeFor(want))
	}
	size, reused := p.reserve(held, want)
	if size == 0 || reused != nil {
		return reused
	}
	return p.alloc(size)
}

func blockSizeFor(want int) int {
	if want <= SmallBlockSize {
		return SmallBlockSize
	}
	return BlockSize
}

// reserve charges a block to the budget and says how large it is; 0 if there is none to be had.
func (p *Pool) reserve(held, want int) (size int, reused []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size = blockSizeFor(want)
	left := p.limit - p.used
	if int64(size) > left || int64(held) >= left/shareDivisor {
		if held > 0 {
			return 0, nil
		}
		size = SmallBlockSize
	}
	p.used += int64(size)
	if n := len(p.kept); n > 0 && size == BlockSize {
		reused = p.kept[n-1]
		p.kept[n-1] = nil
		p.kept = p.kept[:n-1]
	}
	return size, reused
}

// put takes a block back.
func (p *Pool) put(b []byte) {
	if p == nil {
		return
	}
	for _, b := range p.release(b) {
		p.free(b)
	}
}

// release credits the block and gives those that the pool does not keep.
func (p *Pool) release(b []byte) (surplus [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used -= int64(len(b))
	keep := keepBlocks
	if p.used == 0 {
		keep = keepIdle
	}
	if len(b) == BlockSize && len(p.kept) < keep {
		p.kept = append(p.kept, b)
		return nil
	}
	surplus = append(surplus, b)
	for n := len(p.kept); n > keep; n-- {
		surplus = append(surplus, p.kept[n-1])
		p.kept[n-1] = nil
		p.kept = p.kept[:n-1]
	}
	return surplus
}

// Close frees what the pool keeps. Blocks that rings hold still come back and are freed then.
func (p *Pool) Close() {
	p.mu.Lock()
	kept := p.kept
	p.kept = nil
	p.mu.Unlock()
	for _, b := range kept {
		p.free(b)
	}
}
