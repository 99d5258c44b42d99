package streams

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// sizes notes how much each Read asks for.
type sizes struct {
	r    io.Reader
	want []int
}

func (s *sizes) Read(b []byte) (int, error) {
	s.want = append(s.want, len(b))
	return s.r.Read(b)
}

func TestCopyGrowing(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	var got bytes.Buffer
	src := &sizes{r: io.MultiReader(bytes.NewReader(text), iotest.OneByteReader(bytes.NewReader(text[:2])))}
	if err := copyGrowing(&got, src); err != nil || !bytes.Equal(got.Bytes(), append(text, text[:2]...)) {
		t.Errorf("copyGrowing() = %v, %d bytes; want all %d", err, got.Len(), len(text)+2)
	}
	if n := len(src.want); src.want[0] != smallBuffer || src.want[3] != largeBuffer || src.want[n-1] != smallBuffer {
		t.Errorf("reads ask for %d bytes; want few at first, many while they come, few again", src.want)
	}
}

// shortWriter takes less than it is given and says nothing.
type shortWriter struct{}

func (shortWriter) Write(b []byte) (int, error) { return len(b) - 1, nil }

func TestCopyGrowingErrors(t *testing.T) {
	broken := errors.New("broken")
	if err := copyGrowing(io.Discard, iotest.ErrReader(broken)); err != broken {
		t.Errorf("copyGrowing() from a broken reader = %v; want its error", err)
	}
	if err := copyGrowing(shortWriter{}, bytes.NewReader([]byte("text"))); err != io.ErrShortWrite {
		t.Errorf("copyGrowing() to a writer that takes less = %v; want io.ErrShortWrite", err)
	}
}
