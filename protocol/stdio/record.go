package stdio

import "github.com/bellhop-vm/bellhop/protocol"

// recordBuffer gathers one record from pieces.
type recordBuffer struct {
	b [protocol.RecordSize]byte
	n int
}

// fill takes what it needs from b, gives how much that was and whether the record is whole.
func (r *recordBuffer) fill(b []byte) (int, bool) {
	n := copy(r.b[r.n:], b)
	r.n += n
	return n, r.n == len(r.b)
}

// take gives the whole record and begins the next.
func (r *recordBuffer) take() []byte {
	r.n = 0
	return r.b[:]
}
