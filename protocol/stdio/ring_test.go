package stdio

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// countingAlloc checks that a pool frees what it was given, once.
type countingAlloc struct {
	t    *testing.T
	live map[*byte]bool
}

func (c *countingAlloc) alloc(size int) []byte {
	b := make([]byte, size)
	c.live[&b[0]] = true
	return b
}

func (c *countingAlloc) free(b []byte) {
	if !c.live[&b[0]] {
		c.t.Error("a block was freed that was not given, or twice")
	}
	delete(c.live, &b[0])
}

func TestRingKeepsBytes(t *testing.T) {
	for _, size := range []int{4 << 10, 5000, 64 << 10, 100 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a := &countingAlloc{t: t, live: make(map[*byte]bool)}
			pool := NewPool(8<<20, a.alloc, a.free)
			rng := rand.New(rand.NewPCG(1, uint64(size)))
			const start = 1 << 40
			r := NewRing(pool, size, start)
			var model []byte // what the ring must hold
			for step := range 3000 {
				switch rng.IntN(4) {
				case 0, 1:
					model = appendNoise(rng, r, model)
				case 2:
					n := rng.IntN(len(model) + 1)
					r.Discard(r.First() + uint64(n))
					model = model[n:]
				case 3:
					r.Trim()
				}
				if r.Len() != len(model) || r.Len() > size {
					t.Fatalf("step %d: Len() = %d; want %d, at most %d", step, r.Len(), len(model), size)
				}
				if held := int64(r.Held()); held != pool.Used() || held > int64(size)+2*BlockSize {
					t.Fatalf("step %d: Held() = %d, the pool says %d; want the same, and little more than %d", step, held, pool.Used(), size)
				}
				from := rng.IntN(len(model) + 1)
				to := from + rng.IntN(len(model)-from+1)
				got := bytes.Join(r.Spans(nil, r.First()+uint64(from), r.First()+uint64(to)), nil)
				if !bytes.Equal(got, model[from:to]) {
					t.Fatalf("step %d: Spans(%d, %d) differs from what was put in", step, from, to)
				}
			}
			r.Reset(5)
			if r.Held() != 0 || pool.Used() != 0 || r.First() != 5 || r.Next() != 5 {
				t.Errorf("after Reset(5): Held() = %d, Used() = %d, %d to %d", r.Held(), pool.Used(), r.First(), r.Next())
			}
			pool.Close()
			if len(a.live) != 0 {
				t.Errorf("%d blocks were not freed", len(a.live))
			}
		})
	}
}

// appendNoise fills a part of what Append offers.
func appendNoise(rng *rand.Rand, r *Ring, model []byte) []byte {
	spans := r.Append(nil, 1+rng.IntN(300<<10))
	room := 0
	for _, s := range spans {
		room += len(s)
	}
	if room == 0 {
		return model
	}
	n := rng.IntN(room + 1)
	r.Commit(n)
	for _, s := range spans {
		for i := range s[:min(n, len(s))] {
			s[i] = byte(rng.Uint32())
		}
		model = append(model, s[:min(n, len(s))]...)
		n -= min(n, len(s))
	}
	return model
}

func TestTrimmedEmptyRingHoldsNothing(t *testing.T) {
	pool := NewPool(1<<20, nil, nil)
	r := NewRing(pool, 1<<20, 0)
	r.Append(nil, 10)
	r.Commit(10)
	r.Discard(10)
	r.Trim()
	if r.Held() != 0 || pool.Used() != 0 {
		t.Errorf("Held() = %d, Used() = %d; want 0", r.Held(), pool.Used())
	}
}

// TestPoolSharesFairly fills a thousand rings that nobody empties: the pool stays near its limit, and one more ring gets something.
func TestPoolSharesFairly(t *testing.T) {
	const limit = 64 << 20
	pool := NewPool(limit, nil, nil)
	fill := func() (n int) {
		r := NewRing(pool, 1<<20, 0)
		for {
			spans := r.Append(nil, 1<<20)
			if len(spans) == 0 {
				return r.Len()
			}
			for _, s := range spans {
				r.Commit(len(s))
			}
		}
	}
	if n := fill(); n != 1<<20 {
		t.Errorf("the first ring holds %d bytes; want %d", n, 1<<20)
	}
	for range 1000 {
		if n := fill(); n < SmallBlockSize {
			t.Fatalf("a later ring holds %d bytes; want at least %d", n, SmallBlockSize)
		}
	}
	if used := pool.Used(); used > limit+1001*SmallBlockSize {
		t.Errorf("Used() = %d; want at most the limit and a small block for each ring", used)
	}
}
