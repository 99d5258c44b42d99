package vmm

import (
	"fmt"
	"io"
	"os"
	"time"
)

// console reads what the guest writes to its console: all of it, since QEMU
// would otherwise block, and keeps the end.
//
// Its reader goroutine is joined by drain.
type console struct {
	tail  *ring
	copy  io.Writer // gets everything too, until it fails; may be nil
	pipe  *os.File
	ended chan struct{} // closed by the reader when it returns
}

// openConsole starts the reader and returns the end of the pipe that QEMU gets.
func openConsole(w io.Writer) (*console, *os.File, error) {
	r, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("console: %w", err)
	}
	c := &console{tail: newRing(consoleTailSize), copy: w, pipe: r, ended: make(chan struct{})}
	go c.read()
	return c, theirs, nil
}

func (c *console) read() {
	defer close(c.ended)
	buf := make([]byte, 32<<10)
	for {
		n, err := c.pipe.Read(buf)
		c.tail.Write(buf[:n])
		if n > 0 && c.copy != nil {
			if _, err := c.copy.Write(buf[:n]); err != nil {
				c.copy = nil
			}
		}
		if err != nil {
			return
		}
	}
}

// drain reads up to the end of the console, after QEMU's death, and joins
// the reader. It gives up on a reader that hangs in the caller's Write, and says
// so by false: nothing in Go ends another goroutine's call.
func (c *console) drain() bool {
	defer c.pipe.Close()
	c.pipe.SetReadDeadline(time.Now().Add(pipeDelay))
	giveUp := time.NewTimer(pipeDelay + pipeDelay/4)
	defer giveUp.Stop()
	select {
	case <-c.ended:
		return true
	case <-giveUp.C:
		return false
	}
}
