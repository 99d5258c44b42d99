//go:build linux

package extruntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/process"
)

// ward is a process in a keeper's care.
type ward struct {
	pid    int
	keeper *keeper
	done   chan struct{} // closed when the process has ended and its owner has been told

	mu    sync.Mutex
	pidfd *os.File // nil when the process is gone
}

// adopt takes the process that a keeper's command has left. follow must be called with it.
func (k *keeper) adopt() (*ward, error) {
	e, f, err := k.next(eventAdopted)
	if err != nil {
		return nil, err
	}
	return &ward{pid: e.pid, keeper: k, done: make(chan struct{}), pidfd: f}, nil
}

// follow waits for the end of the process and tells it to exited. It returns without when the events are closed.
//
// A process that has lost its keeper has nobody who could tell how it ends, so it is killed, and said to have been.
func (w *ward) follow(exited func(process.Exit), lost func()) {
	e, _, err := w.keeper.next(eventEnded)
	if errors.Is(err, os.ErrClosed) {
		return
	}
	exit := exitOf(syscall.WaitStatus(e.value))
	if err != nil {
		lost()
		_ = w.signal(unix.SIGKILL)
		pidfd.Await(w.pidfd, endBound)
		exit = process.Exit{Signal: unix.SIGKILL, At: time.Now()}
	}
	w.mu.Lock()
	_ = w.pidfd.Close()
	w.pidfd = nil
	w.mu.Unlock()
	w.keeper.close()
	exited(exit)
	close(w.done)
}

func exitOf(s syscall.WaitStatus) process.Exit {
	if s.Signaled() {
		return process.Exit{Signal: s.Signal(), Core: s.CoreDump(), At: time.Now()}
	}
	return process.Exit{Code: s.ExitStatus(), At: time.Now()}
}

// signal sends to the process. ESRCH: it is gone.
func (w *ward) signal(sig syscall.Signal) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pidfd == nil {
		return syscall.ESRCH
	}
	return pidfd.Signal(w.pidfd, sig)
}

// ended says whether the process has ended, perhaps before its owner has been told.
func (w *ward) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pidfd == nil || pidfd.Await(w.pidfd, 0)
}

// dup gives a pidfd of the process, which the caller closes. ESRCH: it is gone.
func (w *ward) dup() (*os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pidfd == nil {
		return nil, syscall.ESRCH
	}
	fd, err := unix.FcntlInt(w.pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate pidfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// join waits for the end of a process that has been killed. A keeper that does not report it within the bound, because somebody has stopped it, say, is killed: then the process is lost, and that
// is its end.
func (w *ward) join(ctx context.Context, bound time.Duration) error {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		w.keeper.kill()
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abandon kills a process that has no owner yet, and joins its end.
func (w *ward) abandon(r *Runtimes) {
	_ = w.signal(unix.SIGKILL)
	r.begin(w, func() { w.follow(func(process.Exit) {}, func() {}) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*endBound)
	defer cancel()
	_ = w.join(ctx, endBound) // fails when the agent ends, or the process does not
}
