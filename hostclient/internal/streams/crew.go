package streams

import "sync"

// crew owns the goroutines of a Set. A goroutine that is in the caller's Read or Write cannot be ended from here, so join waits for all others: one that comes back finds
// its Set closed and ends.
type crew struct {
	mu   sync.Mutex
	cond sync.Cond
	live int
	away int
}

func (c *crew) init() { c.cond.L = &c.mu }

// run starts f.
func (c *crew) run(f func()) {
	c.add(1, 0)
	go func() {
		defer c.add(-1, 0)
		f()
	}()
}

// call runs f, which is the caller's code and may block for ever.
func (c *crew) call(f func()) {
	c.add(0, 1)
	defer c.add(0, -1)
	f()
}

func (c *crew) add(live, away int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live += live
	c.away += away
	c.cond.Broadcast()
}

func (c *crew) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.live > c.away {
		c.cond.Wait()
	}
}
