package vmm

import "sync"

// consoleTailSize and stderrTailSize are what is kept of each, in bytes. A boot
// that ends in a panic prints some 5 KiB.
const (
	consoleTailSize = 64 << 10
	stderrTailSize  = 8 << 10
)

// ring keeps the last bytes written to it, however many they were. It is an
// io.Writer that never fails, and safe for concurrent use.
type ring struct {
	mu    sync.Mutex
	buf   []byte // grows up to limit
	limit int
	next  int // once buf is full: where the oldest byte is
}

func newRing(limit int) *ring { return &ring{limit: limit} }

// Write keeps p's end.
func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	if len(p) > r.limit {
		p = p[len(p)-r.limit:]
	}
	fits := min(len(p), r.limit-len(r.buf))
	r.buf = append(r.buf, p[:fits]...)
	for p = p[fits:]; len(p) > 0; {
		c := copy(r.buf[r.next:], p)
		r.next = (r.next + c) % r.limit
		p = p[c:]
	}
	return n, nil
}

// String returns what is kept, oldest byte first.
func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.buf[r.next:]) + string(r.buf[:r.next])
}
