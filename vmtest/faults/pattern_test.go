package faults

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

// patternFile holds the pattern in the guest.
const patternFile = "/pattern"

// pattern is pseudo-random bytes, which all streams repeat: more than the largest ring, and of a length that no buffer's is a multiple of, so that a place of the stream can't
// be mistaken for another one.
var pattern = makePattern(3<<20 + 7)

func makePattern(n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	copy(key[:], "bellhop fault injection pattern")
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// patternAt gives the pattern from a place of the stream on, at most n bytes.
func patternAt(offset, n int) []byte {
	b := pattern[offset%len(pattern):]
	return b[:min(n, len(b))]
}

// source is a Reader of the stream up to its length. Its reads are of any size.
type source struct {
	offset, length int
	rng            *rand.Rand
}

func newSource(rng *rand.Rand, length int) *source {
	return &source{length: length, rng: rand.New(rand.NewPCG(rng.Uint64(), 1))}
}

func (s *source) Read(b []byte) (int, error) {
	if s.offset == s.length {
		return 0, io.EOF
	}
	n := copy(b, patternAt(s.offset, min(s.length-s.offset, 1+s.rng.IntN(len(b)))))
	s.offset += n
	return n, nil
}

// checker is a Writer that compares what it gets with the stream, and fails at the first byte that differs.
type checker struct {
	mu     sync.Mutex
	offset int
}

func (c *checker) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := 0; n < len(b); {
		want := patternAt(c.offset, len(b)-n)
		if got := b[n : n+len(want)]; !bytes.Equal(got, want) {
			return n, fmt.Errorf("not the stream's bytes at %d: %s", c.offset, whence(got))
		}
		n += len(want)
		c.offset += len(want)
	}
	return len(b), nil
}

func (c *checker) received() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// whence says where in the pattern a run of bytes comes from.
func whence(b []byte) string {
	if i := bytes.Index(pattern, b[:min(len(b), 16)]); i >= 0 {
		return fmt.Sprintf("these are of %d in the pattern of %d", i, len(pattern))
	}
	return fmt.Sprintf("%x", b[:min(len(b), 16)])
}

// streamSum is the md5sum of the stream.
func streamSum(length int) string {
	h := md5.New()
	for offset := 0; offset < length; {
		n, _ := h.Write(patternAt(offset, length-offset)) // never fails
		offset += n
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// generate is a script that writes the stream. Its writes are of the sizes that cat and head choose.
func generate(length int) string {
	return fmt.Sprintf("n=0; while [ $n -lt %d ]; do cat %s; n=$((n+1)); done; head -c %d %[2]s", length/len(pattern), patternFile, length%len(pattern))
}

func TestChecker(t *testing.T) {
	const length = 7<<20 + 3
	rng := rand.New(rand.NewPCG(1, 2))
	c := new(checker)
	if n, err := io.Copy(c, newSource(rng, length)); n != length || err != nil || c.received() != length {
		t.Errorf("the stream itself: %d bytes, %v; want %d", n, err, length)
	}
	for name, b := range map[string][]byte{
		"lost":    patternAt(length+1, 100),
		"doubled": patternAt(length-50, 100),
		"changed": append(bytes.Clone(patternAt(length, 99)), patternAt(length+99, 1)[0]^1),
	} {
		broken := &checker{offset: length}
		if _, err := broken.Write(b); err == nil {
			t.Errorf("%s bytes: Write = no error; want one", name)
		}
	}
}
