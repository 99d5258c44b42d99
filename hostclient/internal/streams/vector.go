package streams

import "net"

// maxWrite bounds one write in bytes, so that acks are applied in between.
const maxWrite = 256 << 10

// vectorWriter writes several pieces as one: with writev(2) where the connection can, else by a buffer.
type vectorWriter struct {
	c       net.Conn
	vector  bool
	pieces  [32][]byte
	gather  []byte
	clipped net.Buffers
}

func newVectorWriter(c net.Conn) *vectorWriter {
	w := &vectorWriter{c: c}
	switch c.(type) {
	case *net.UnixConn, *net.TCPConn:
		w.vector = true
	}
	return w
}

// bufs gives an empty slice for the pieces.
func (w *vectorWriter) bufs() [][]byte { return w.pieces[:0] }

// write writes at most maxWrite bytes of bufs and says how many.
func (w *vectorWriter) write(bufs [][]byte) (int, error) {
	left := maxWrite
	w.clipped = w.clipped[:0]
	for _, b := range bufs {
		b = b[:min(len(b), left)]
		left -= len(b)
		w.clipped = append(w.clipped, b)
	}
	if w.vector {
		clipped := w.clipped // WriteTo consumes it
		n, err := clipped.WriteTo(w.c)
		return int(n), err
	}
	w.gather = w.gather[:0]
	for _, b := range w.clipped {
		w.gather = append(w.gather, b...)
	}
	n, err := w.c.Write(w.gather)
	if cap(w.gather) > smallBuffer && n <= smallBuffer {
		w.gather = nil
	}
	return n, err
}
