package control

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// recorder is a connection that records its writes, and whose reads are the test's.
type recorder struct {
	net.Conn
	reading chan bool   // a Read has begun
	read    chan []byte // and takes one, whole

	mu     sync.Mutex
	writes []string
	fail   error
}

func (r *recorder) Read(p []byte) (int, error) {
	r.reading <- true
	b, ok := <-r.read
	if !ok {
		return 0, io.EOF
	}
	return copy(p, b), nil
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return 0, r.fail
	}
	r.writes = append(r.writes, string(p))
	return len(p), nil
}

func (r *recorder) written() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.writes)
}

// TestGatherer: what is written between two reads goes out at once before the second, and what is written while a read waits goes out by itself.
func TestGatherer(t *testing.T) {
	r := &recorder{reading: make(chan bool), read: make(chan []byte)}
	g := &gatherer{Conn: r}
	write := func(s string) {
		t.Helper()
		if n, err := g.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("Write(%q) = %d, %v; want all", s, n, err)
		}
	}
	write("a")
	write("b")
	if got := r.written(); len(got) != 0 {
		t.Errorf("before a read, %q is written; want nothing", got)
	}
	read := make(chan error)
	begin := func() {
		go func() {
			_, err := g.Read(make([]byte, 10))
			read <- err
		}()
	}
	begin()
	<-r.reading
	r.read <- []byte("x")
	if err := <-read; err != nil {
		t.Fatalf("Read() = %v; want no error", err)
	}
	if got, want := r.written(), []string{"ab"}; !slices.Equal(got, want) {
		t.Errorf("after a read, %q is written; want %q", got, want)
	}
	begin()
	<-r.reading
	write("c")
	write("d")
	if got, want := r.written(), []string{"ab", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("while a read waits, %q is written; want %q", got, want)
	}
	close(r.read)
	if err := <-read; err != io.EOF {
		t.Errorf("Read() at the end = %v; want EOF", err)
	}
}

// TestGathererIsBounded: much is written even if nobody reads, in order, and a long buffer is not kept.
func TestGathererIsBounded(t *testing.T) {
	r := &recorder{}
	g := &gatherer{Conn: r}
	var want bytes.Buffer
	for i := range 100 {
		b := bytes.Repeat([]byte{byte(i)}, 1000)
		want.Write(b)
		if _, err := g.Write(b); err != nil {
			t.Fatalf("Write() = %v; want no error", err)
		}
		if held := len(g.held); held > maxGathered {
			t.Fatalf("%d bytes are held; want at most %d", held, maxGathered)
		}
	}
	if _, err := g.Write(make([]byte, 10*maxGathered)); err != nil {
		t.Fatalf("Write() = %v; want no error", err)
	}
	want.Write(make([]byte, 10*maxGathered))
	var got string
	for _, w := range r.written() {
		got += w
	}
	if got != want.String() {
		t.Errorf("%d bytes are written; want the %d that Write was given", len(got), want.Len())
	}
	if cap(g.held) > 2*maxGathered || cap(g.spare) > maxGathered {
		t.Errorf("buffers of %d and %d bytes are kept; want short ones", cap(g.held), cap(g.spare))
	}
}

// TestGathererFails: an error of a write that was held is not lost.
func TestGathererFails(t *testing.T) {
	broken := errors.New("broken")
	g := &gatherer{Conn: &recorder{fail: broken}}
	if _, err := g.Write([]byte("a")); err != nil {
		t.Errorf("Write() = %v; want no error yet", err)
	}
	if _, err := g.Read(nil); err != broken {
		t.Errorf("Read() = %v; want %v", err, broken)
	}
	if _, err := g.Write([]byte("b")); err != broken {
		t.Errorf("Write() after that = %v; want %v", err, broken)
	}
}

// TestGathererKeepsOrder has one writer race with the reader's turns.
func TestGathererKeepsOrder(t *testing.T) {
	here, there := net.Pipe()
	g := &gatherer{Conn: here}
	const count = 20_000
	var wg sync.WaitGroup
	turns := make(chan bool, count)
	wg.Go(func() { // the host: what it reads must be in order
		buf := make([]byte, 1)
		for i := range count {
			if _, err := io.ReadFull(there, buf); err != nil || buf[0] != byte(i) {
				t.Errorf("byte %d is %d, %v; want %d", i, buf[0], err, byte(i))
				break
			}
			if i%7 == 0 {
				turns <- true
			}
		}
		close(turns)
	})
	wg.Go(func() { // and, as hosts do, it writes whether it is read or not
		for range turns {
			_, _ = there.Write([]byte{0})
		}
		there.Close()
	})
	wg.Go(func() {
		buf := make([]byte, 1)
		for {
			if _, err := g.Read(buf); err != nil {
				return
			}
		}
	})
	for i := range count {
		if _, err := g.Write([]byte{byte(i)}); err != nil {
			t.Errorf("Write(%d) = %v; want no error", i, err)
			break
		}
	}
	wg.Wait()
}
