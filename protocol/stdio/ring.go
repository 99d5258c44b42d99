package stdio

// Ring holds a run of a stream's bytes, from First to Next, in blocks of a Pool. It takes memory as bytes come and gives it back as they go; an empty ring that was
// told to Trim holds none. Bytes never move within it: they are read into it and written from it.
type Ring struct {
	pool   *Pool
	size   int
	blocks [][]byte
	held   int    // bytes in blocks
	first  uint64 // offset of the oldest byte
	next   uint64 // offset behind the newest byte
	head   int    // position of first in blocks[0]
}

// NewRing makes an empty ring that holds at most size bytes, the first of which will be at offset.
func NewRing(pool *Pool, size int, offset uint64) *Ring {
	return &Ring{pool: pool, size: size, first: offset, next: offset}
}

// First is the offset of the oldest byte held, Next that behind the newest.
func (r *Ring) First() uint64 { return r.first }
func (r *Ring) Next() uint64  { return r.next }

// Len is the number of bytes held, Cap the most that may be.
func (r *Ring) Len() int { return int(r.next - r.first) }
func (r *Ring) Cap() int { return r.size }

// Held is the memory taken from the pool, in bytes: at most Cap and the rest of two blocks.
func (r *Ring) Held() int { return r.held }

// Room gives the bytes that may be appended under the ring's own size. The pool may give less.
func (r *Ring) Room() int { return r.size - r.Len() }

// Append gives room for new bytes: at most want bytes of room, as spans that follow each other, appended to dst. It takes blocks from the pool as needed; no span means that ring or
// budget is full. The spans are good until the next call of any other method; Commit says how much of them was filled.
func (r *Ring) Append(dst [][]byte, want int) [][]byte {
	want = min(want, r.Room())
	pos := r.head + r.Len()
	for i, had := 0, len(dst); want > 0; i++ {
		if i == len(r.blocks) {
			if want <= SmallBlockSize && len(dst) > had {
				break // not worth a block of its own
			}
			b := r.pool.get(r.held, want)
			if b == nil {
				break
			}
			r.blocks = append(r.blocks, b)
			r.held += len(b)
		}
		b := r.blocks[i]
		if pos >= len(b) {
			pos -= len(b)
			continue
		}
		n := min(len(b)-pos, want)
		dst = append(dst, b[pos:pos+n:pos+n])
		want -= n
		pos = 0
	}
	return dst
}

// Commit says that the first n bytes of the spans of the last Append were filled.
func (r *Ring) Commit(n int) { r.next += uint64(n) }

// Spans appends to dst the bytes from offset from to offset to. Both must be within First and Next.
func (r *Ring) Spans(dst [][]byte, from, to uint64) [][]byte {
	pos, left := r.head+int(from-r.first), int(to-from)
	for _, b := range r.blocks {
		if left == 0 {
			break
		}
		if pos >= len(b) {
			pos -= len(b)
			continue
		}
		n := min(len(b)-pos, left)
		dst = append(dst, b[pos:pos+n:pos+n])
		left -= n
		pos = 0
	}
	return dst
}

// Discard forgets the bytes before offset to, which must be within First and Next, and gives back the blocks that hold nothing else.
func (r *Ring) Discard(to uint64) {
	r.head += int(to - r.first)
	r.first = to
	n := 0
	for n < len(r.blocks) && r.head >= len(r.blocks[n]) {
		r.head -= len(r.blocks[n])
		r.release(n)
		n++
	}
	r.blocks = append(r.blocks[:0], r.blocks[n:]...)
}

// Trim gives back the blocks that hold no bytes. Their owner calls it when it is about to wait for its source.
func (r *Ring) Trim() {
	keep := 0
	if r.Len() > 0 {
		for pos := r.head + r.Len(); pos > 0; keep++ {
			pos -= len(r.blocks[keep])
		}
	}
	for i := keep; i < len(r.blocks); i++ {
		r.release(i)
	}
	r.blocks = r.blocks[:keep]
	if keep == 0 {
		r.head = 0
	}
}

// Reset forgets everything, gives all memory back, and goes on at offset.
func (r *Ring) Reset(offset uint64) {
	r.first, r.next = offset, offset
	r.Trim()
	r.blocks = nil
}

// release gives block i back. Its place is left empty.
func (r *Ring) release(i int) {
	r.held -= len(r.blocks[i])
	r.pool.put(r.blocks[i])
	r.blocks[i] = nil
}
