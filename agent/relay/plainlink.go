//go:build linux

package relay

import (
	"net"
	"sync"
)

// plainBuffer is the size of a plainLink's buffers in bytes.
const plainBuffer = 32 << 10

// plainLink is a connection that can only block. A wait reads or writes by a buffer, a try copies from or to it; so the bytes are copied once more, and the relays need
// to know of one kind of link only.
type plainLink struct {
	net.Conn

	mu   sync.Mutex
	in   []byte // read and not yet taken
	err  error  // what the last Read said
	out  []byte // taken and not yet written
	werr error

	flushing sync.Mutex // one Write at a time
}

func (l *plainLink) tryReadv(bufs [][]byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.in) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		return 0, errAgain
	}
	total := 0
	for _, b := range bufs {
		n := copy(b, l.in)
		l.in = l.in[n:]
		total += n
	}
	if len(l.in) == 0 {
		l.in = nil
	}
	return total, nil
}

func (l *plainLink) whenReadable(f func(uintptr) bool) error {
	for !f(0) {
		l.mu.Lock()
		full, err := len(l.in) > 0, l.err
		l.mu.Unlock()
		if full {
			continue
		}
		if err != nil {
			return err
		}
		b := make([]byte, plainBuffer)
		n, err := l.Read(b)
		l.mu.Lock()
		l.in, l.err = b[:n], err
		l.mu.Unlock()
	}
	return nil
}

func (l *plainLink) tryWritev(bufs [][]byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.werr != nil {
		return 0, l.werr
	}
	if len(l.out) > 0 {
		return 0, errAgain
	}
	for _, b := range bufs {
		l.out = append(l.out, b[:min(len(b), plainBuffer-len(l.out))]...)
	}
	return len(l.out), nil
}

func (l *plainLink) whenWritable(f func(uintptr) bool) error {
	for !f(0) {
		if err := l.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (l *plainLink) buffered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.out) > 0
}

func (l *plainLink) flush() error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	out := l.out
	l.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	_, err := l.Write(out)
	l.mu.Lock()
	l.out, l.werr = nil, err
	l.mu.Unlock()
	return err
}
