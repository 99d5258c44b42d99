//go:build linux

// Package capture keeps the beginning of what a command writes, for the error that quotes it.
package capture

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Max is how much is kept, in bytes. The rest is read and dropped, so that the command does not block.
const Max = 16 << 10

// Capture is a pipe and the goroutine that reads it, which Finish joins.
type Capture struct {
	Write *os.File // the command's stdout, or stderr, or both

	read *os.File
	done chan struct{} // closed when text is complete
	text []byte
}

// New makes a Capture. Finish must follow.
func New() (*Capture, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make pipe: %w", err)
	}
	c := &Capture{read: r, Write: w, done: make(chan struct{})}
	go c.run()
	return c, nil
}

func (c *Capture) run() {
	defer close(c.done)
	c.text, _ = io.ReadAll(io.LimitReader(c.read, Max))
	_, _ = io.Copy(io.Discard, c.read)
}

// bound is how long Finish waits for the end of the output: what the command left may hold the pipe open.
const bound = time.Second

// Finish ends the capture when the command has ended, and gives its text.
func (c *Capture) Finish() []byte {
	_ = c.Write.Close()
	_ = c.read.SetReadDeadline(time.Now().Add(bound))
	<-c.done
	_ = c.read.Close()
	return c.text
}
