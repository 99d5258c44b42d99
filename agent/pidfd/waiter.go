//go:build linux

package pidfd

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned by [Waiter.Add] after [Waiter.Close].
var ErrClosed = errors.New("waiter is closed")

// batch is how many ended children one epoll_wait(2) reports.
const batch = 64

// A Waiter reaps the children that it is told of and reports how they ended.
// Its epoll instance is itself polled by the Go runtime, so its goroutine occupies no thread.
type Waiter struct {
	epoll *os.File
	conn  syscall.RawConn
	done  chan struct{} // closed by run when it returns

	mu       sync.Mutex
	closed   bool
	last     uint64
	children map[uint64]child
}

type child struct {
	pid    int
	fd     int
	exited func(Status)
}

// NewWaiter starts a Waiter. The caller closes it.
func NewWaiter() (*Waiter, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot create waiter: %w", os.NewSyscallError("epoll_create1", err))
	}
	// The runtime polls only what is non-blocking.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot create waiter: %w", os.NewSyscallError("fcntl", err))
	}
	w := &Waiter{epoll: os.NewFile(uintptr(fd), "waiter"), done: make(chan struct{}), children: make(map[uint64]child)}
	if w.conn, err = w.epoll.SyscallConn(); err != nil {
		w.epoll.Close()
		return nil, fmt.Errorf("cannot create waiter: %w", err)
	}
	go w.run()
	return w, nil
}

// Add reaps the child behind pidfd as soon as it has ended, and then calls exited once, on the Waiter's goroutine, where it must not block. A child that has already ended is
// reported too. The Waiter borrows pidfd: the caller closes it, not before exited is called. After Close, exited may never be called.
func (w *Waiter) Add(pid int, pidfd *os.File, exited func(Status)) error {
	fd := int(pidfd.Fd())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	w.last++
	key := w.last
	w.children[key] = child{pid: pid, fd: fd, exited: exited}
	// Edge-triggered, since a pidfd whose process is a zombie that its tracer still holds is readable and yet not waitable; a new edge comes when the tracer lets go.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(uint32(key)), Pad: int32(key >> 32)}
	if err := control(w.conn, func(epfd int) error { return unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &event) }); err != nil {
		delete(w.children, key)
		return fmt.Errorf("cannot wait for process %d: %w", pid, os.NewSyscallError("epoll_ctl", err))
	}
	return nil
}

// Close stops waiting and joins the Waiter's goroutine. Children that have not ended stay unreaped. It must not be called from an exited callback.
func (w *Waiter) Close() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		<-w.done
		return nil
	}
	err := w.epoll.Close()
	<-w.done
	return err
}

func (w *Waiter) run() {
	defer close(w.done)
	events := make([]unix.EpollEvent, batch)
	var n int
	for {
		err := w.conn.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil { // the epoll instance is closed
			return
		}
		for _, e := range events[:n] {
			w.report(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
}

// report reaps one child, if it can be reaped now, and tells its owner.
func (w *Waiter) report(key uint64) {
	w.mu.Lock()
	c, ok := w.children[key]
	w.mu.Unlock()
	if !ok {
		return
	}
	status, ended := reap(c.fd)
	if !ended {
		return
	}
	status.PID = c.pid
	w.mu.Lock()
	delete(w.children, key)
	if !w.closed {
		// The owner may keep the pidfd open, and it would stay registered. The error of an already closed one does not matter.
		_ = control(w.conn, func(epfd int) error { return unix.EpollCtl(epfd, unix.EPOLL_CTL_DEL, c.fd, nil) })
	}
	w.mu.Unlock()
	c.exited(status)
}

// control calls f with the file descriptor behind conn, which stays open meanwhile.
func control(conn syscall.RawConn, f func(fd int) error) error {
	var ferr error
	if err := conn.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}
