package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// direct is a stream whose connection is the process's own file (SPEC 6.5): raw bytes, one connection, its end is the end of file.
type direct struct {
	set    *Set
	stream pb.Stream
	copy   func(net.Conn) error

	mu      sync.Mutex
	cond    sync.Cond
	conn    net.Conn
	begun   bool // Create is answered: the connection is final
	copying bool // copy was started
	done    bool // copy has returned
	ended   bool // an input that the caller ended
	closed  bool
	err     error
}

func newDirectOutput(s *Set, name pb.Stream, w io.Writer) *direct {
	d := newDirect(s, name)
	d.copy = func(c net.Conn) error {
		return copyGrowing(callWriter{&s.crew, w}, c)
	}
	return d
}

func newDirectInput(s *Set, r io.Reader) *direct {
	d := newDirect(s, pb.Stream_STREAM_STDIN)
	d.copy = func(c net.Conn) error {
		src := &errReader{r: callReader{&s.crew, r}}
		_ = copyGrowing(c, src) // a process that reads no more is no error
		d.closeStdin()
		return src.err
	}
	return d
}

func newDirect(s *Set, name pb.Stream) *direct {
	d := &direct{set: s, stream: name}
	d.cond.L = &d.mu
	return d
}

func (d *direct) name() pb.Stream { return d.stream }

func (d *direct) check(p protocol.Preamble) error {
	if p.Mode != pb.StdioMode_STDIO_MODE_DIRECT || p.Generation != 1 || p.Offset != 0 {
		return fmt.Errorf("%w: %s comes with mode %d, generation %d, offset %d", protocol.ErrProtocol, label(d.stream), p.Mode, p.Generation, p.Offset)
	}
	return nil
}

// arrived takes the place of a connection that the guest has given up. None carries a byte before Create is answered, so nothing is lost with it.
func (d *direct) arrived(c net.Conn, _ protocol.Preamble) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.copying {
		_ = c.Close()
		return
	}
	if d.conn != nil {
		_ = d.conn.Close()
	}
	d.conn = c
	if d.ended {
		closeWrite(c)
	}
	d.start()
}

// begin says that Create is answered.
func (d *direct) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun = true
	d.start()
}

// start begins to copy when all is ready. mu is held.
func (d *direct) start() {
	if c := d.conn; d.begun && c != nil && !d.copying && !d.closed {
		d.copying = true
		d.set.crew.run(func() { d.run(c) })
	}
}

func (d *direct) run(c net.Conn) {
	err := d.copy(c)
	if d.stream != pb.Stream_STREAM_STDIN {
		_ = c.Close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = true
	if !d.closed {
		d.err = err
	}
	d.cond.Broadcast()
}

// closeStdin ends the input: bytes that are on their way arrive.
func (d *direct) closeStdin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stream != pb.Stream_STREAM_STDIN || d.ended {
		return
	}
	d.ended = true
	if d.conn != nil {
		closeWrite(d.conn)
	}
}

// closeWrite shuts the sending side down, or all of a connection that knows no halves.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.Close()
}

// retire gives up a connection that another takes the place of, which may come behind the answer to Create: begin must not go on with this one then.
func (d *direct) retire(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil && !d.copying {
		_ = d.conn.Close()
		d.conn = nil
	}
	return nil
}

func (d *direct) setGeneration(uint32) {}

func (d *direct) request(takeOver bool) *pb.AttachStream {
	return &pb.AttachStream{Stream: d.stream, Generation: 1, TakeOver: takeOver} // the guest says why not
}

// detach closes the connection: there is nothing to be taken up again.
func (d *direct) detach() { d.shut() }

func (d *direct) finish(ctx context.Context, _ *pb.Output) error {
	defer context.AfterFunc(ctx, d.wake)()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stream == pb.Stream_STREAM_STDIN {
		return d.err
	}
	for !d.done && !d.closed && ctx.Err() == nil {
		d.cond.Wait()
	}
	switch {
	case d.done:
		return d.err
	case d.closed:
		return errClosed
	}
	return ctx.Err()
}

func (d *direct) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cond.Broadcast()
}

func (d *direct) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.conn != nil {
		_ = d.conn.Close()
	}
	d.cond.Broadcast()
}

// callWriter and callReader mark the time spent in the caller's code.
type callWriter struct {
	crew *crew
	w    io.Writer
}

func (c callWriter) Write(b []byte) (n int, err error) {
	c.crew.call(func() { n, err = c.w.Write(b) })
	return n, err
}

type callReader struct {
	crew *crew
	r    io.Reader
}

func (c callReader) Read(b []byte) (n int, err error) {
	c.crew.call(func() { n, err = c.r.Read(b) })
	return n, err
}

// errReader keeps the error of its Reader, if that is not the end.
type errReader struct {
	r   io.Reader
	err error
}

func (e *errReader) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}

// copyGrowing copies to the end of src with a buffer that grows while reads fill it, and shrinks when they do not: an idle stream holds little, a busy one needs few reads.
func copyGrowing(dst io.Writer, src io.Reader) error {
	buf := make([]byte, smallBuffer)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if w, err := dst.Write(buf[:n]); err != nil {
				return err
			} else if w != n {
				return io.ErrShortWrite
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		buf = resized(buf, n)
	}
}

// resized gives the buffer to use behind a read of n bytes into buf.
func resized(buf []byte, n int) []byte {
	switch {
	case n == len(buf) && n < largeBuffer:
		return make([]byte, min(8*n, largeBuffer))
	case n <= smallBuffer && len(buf) > smallBuffer:
		return make([]byte, smallBuffer)
	}
	return buf
}
