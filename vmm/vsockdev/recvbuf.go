package vsockdev

import "sync"

const (
	smallChunk = 4 << 10
	largeChunk = 64 << 10

	keepChunks = 8 // pointers that an empty buffer may keep room for
)

// chunkPool keeps the memory of receive buffers between uses. All connections of a device share it.
type chunkPool struct {
	small, large sync.Pool
}

// get returns a chunk for at least one and ideally n bytes.
func (p *chunkPool) get(n int) *[]byte {
	pool, size := &p.small, smallChunk
	if n > smallChunk {
		pool, size = &p.large, largeChunk
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (p *chunkPool) put(b *[]byte) {
	if len(*b) == smallChunk {
		p.small.Put(b)
	} else {
		p.large.Put(b)
	}
}

// recvBuffer is a queue of bytes. It holds memory only while it holds bytes, so an idle connection costs none.
type recvBuffer struct {
	size   int // bytes held
	start  int // first byte in chunks[0]
	end    int // end of the bytes in the last chunk
	chunks []*[]byte
}

// append adds n bytes of the chain, from off on.
func (b *recvBuffer) append(pool *chunkPool, ch *chain, off, n int) {
	for n > 0 {
		if len(b.chunks) == 0 || b.end == len(*b.chunks[len(b.chunks)-1]) {
			// What follows is probably as large as what is here already.
			b.chunks = append(b.chunks, pool.get(max(n, b.size)))
			b.end = 0
		}
		last := *b.chunks[len(b.chunks)-1]
		k := ch.readAt(last[b.end:min(len(last), b.end+n)], off)
		b.end += k
		b.size += k
		off += k
		n -= k
	}
}

// read moves bytes into p and returns how many.
func (b *recvBuffer) read(pool *chunkPool, p []byte) int {
	n := 0
	for n < len(p) && b.size > 0 {
		first := *b.chunks[0]
		if len(b.chunks) == 1 {
			first = first[:b.end]
		}
		k := copy(p[n:], first[b.start:])
		n += k
		b.start += k
		b.size -= k
		if b.start == len(first) {
			b.drop(pool)
		}
	}
	return n
}

// drop gives back the first chunk, which is used up.
func (b *recvBuffer) drop(pool *chunkPool) {
	pool.put(b.chunks[0])
	last := len(b.chunks) - 1
	copy(b.chunks, b.chunks[1:])
	b.chunks[last] = nil
	b.chunks = b.chunks[:last]
	b.start = 0
	if last == 0 {
		b.end = 0
		if cap(b.chunks) > keepChunks {
			b.chunks = nil
		}
	}
}

// clear drops all bytes and returns how many there were.
func (b *recvBuffer) clear(pool *chunkPool) int {
	n := b.size
	for _, c := range b.chunks {
		pool.put(c)
	}
	*b = recvBuffer{}
	return n
}
