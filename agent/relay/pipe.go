//go:build linux

package relay

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// smallPipe is the size of a pipe in bytes (pipe(7)), and largePipe that of one which is busy: the small one costs half of the throughput.
	smallPipe = 64 << 10
	largePipe = 1 << 20
)

// pipeSize enlarges a pipe while that is of use and the budget allows it. What is in a pipe is the kernel's memory, and a pipe that nobody reads is full: a thousand
// large ones would take a small guest's memory all by themselves.
type pipeSize struct {
	budget *Budget

	mu     sync.Mutex
	large  bool
	closed bool
}

// enlarge is called when a pipe was found full, and reports whether it has become larger. A smaller one is slower, nothing else.
func (e *end) enlarge() bool {
	if e.pipe == nil {
		return false
	}
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	if e.pipe.large || e.pipe.closed || !e.pipe.budget.takePipe() {
		return false
	}
	if e.resize(largePipe) != nil { // the user's quota of pipe pages may be used up, too
		e.pipe.budget.givePipe()
		return false
	}
	e.pipe.large = true
	return true
}

// reduce is called when a pipe has been idle. One that has more in it than fits is left as it is.
func (e *end) reduce() {
	if e.pipe == nil {
		return
	}
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	if e.pipe.large && e.resize(smallPipe) == nil {
		e.pipe.large = false
		e.pipe.budget.givePipe()
	}
}

// closePipe gives back what the pipe has of the budget. The process that still has the other end may hold the memory for longer.
func (e *end) closePipe() {
	if e.pipe == nil {
		return
	}
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	if e.pipe.large {
		e.pipe.large = false
		e.pipe.budget.givePipe()
	}
	e.pipe.closed = true
}

func (e *end) resize(size int) error {
	var err error
	if cerr := e.rc.Control(func(fd uintptr) { _, err = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, size) }); cerr != nil {
		return cerr
	}
	return err
}

// pipe makes a pipe for a stream of a process: ours is non-blocking, theirs is blocking and both are close-on-exec. output says that they write.
func (b *Budget) pipe(name string, output bool) (ours *end, theirs *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("cannot make pipe for %s: %w", name, err)
	}
	mine, other := p[1], p[0]
	if output {
		mine, other = p[0], p[1]
	}
	theirs = os.NewFile(uintptr(other), name)
	if err := unix.SetNonblock(mine, true); err != nil {
		_ = unix.Close(mine)
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("cannot make pipe for %s: %w", name, err)
	}
	f := os.NewFile(uintptr(mine), name)
	ours, err = newEnd(f)
	if err != nil {
		_ = f.Close()
		_ = theirs.Close()
		return nil, nil, err
	}
	ours.pipe = &pipeSize{budget: b}
	return ours, theirs, nil
}
