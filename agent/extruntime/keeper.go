//go:build linux

package extruntime

// #include "keeper.h"
import "C"

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
	"github.com/bellhop-vm/bellhop/agent/seqpacket"
)

// keeper is a keeper process as the agent holds it.
type keeper struct {
	pid    int
	socket *os.File      // events come here; close ends them
	reaped chan struct{} // closed when the process has been reaped

	mu     sync.Mutex
	pidfd  *os.File // nil when the process has been reaped
	closed bool     // the socket is
}

// environment is what runtimes are run with: nothing of the agent's.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
}

// launch makes a keeper that runs argv. pidFile is where the command writes the pid of the process that it leaves; empty: it leaves none. The stdio is borrowed.
func (r *Runtimes) launch(argv []string, pidFile string, stdio [3]*os.File) (*keeper, error) {
	local, remote, err := seqpacket.Pair("keeper")
	if err != nil {
		return nil, err
	}
	defer remote.Close()
	files := []uintptr{stdio[0].Fd(), stdio[1].Fd(), stdio[2].Fd(), C.KEEPER_SOCKET: remote.Fd()}
	pid, err := syscall.ForkExec(r.exe, append([]string{C.KEEPER_ARGV0, pidFile}, argv...), &syscall.ProcAttr{
		Dir: "/", Env: environment(), Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot fork a keeper: %w", err), local.Close())
	}
	k := &keeper{pid: pid, socket: local, reaped: make(chan struct{})}
	if err := k.watch(r.cfg.Waiter); err != nil {
		return nil, errors.Join(err, local.Close())
	}
	return k, nil
}

// watch makes the waiter reap the new process. On an error nothing is left of it.
func (k *keeper) watch(w *pidfd.Waiter) error {
	var err error
	if k.pidfd, err = pidfd.Open(k.pid); err == nil {
		if err = w.Add(k.pid, k.pidfd, k.ended); err == nil {
			return nil
		}
		_ = k.pidfd.Close()
	}
	// It is this process's child, and nobody else waits for it, so the pid is still its own.
	_ = unix.Kill(k.pid, unix.SIGKILL)
	_, _ = syscall.Wait4(k.pid, nil, 0, nil)
	return err
}

// ended is called by the waiter.
func (k *keeper) ended(pidfd.Status) {
	k.mu.Lock()
	_ = k.pidfd.Close()
	k.pidfd = nil
	k.mu.Unlock()
	close(k.reaped)
}

func (k *keeper) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pidfd != nil {
		_ = pidfd.Signal(k.pidfd, unix.SIGKILL)
	}
}

// close ends the events: next gives os.ErrClosed. The keeper itself ends with its process.
func (k *keeper) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	_ = k.socket.Close()
}

func (k *keeper) isClosed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}

// await waits for the command's end. The context kills the command, and is then the error if that ended it; an *exitError is that of a command that failed.
func (k *keeper) await(ctx context.Context) error {
	_, command, err := k.next(eventStarted)
	if err != nil {
		return err
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = pidfd.Signal(command, unix.SIGKILL)
		close(killed)
	})
	e, _, err := k.next(eventCommandEnded)
	if !stop() {
		<-killed
	}
	if errors.Is(err, errKeeperGone) {
		pidfd.Await(command, endBound) // it is killed with its keeper
	}
	_ = command.Close()
	switch {
	case err != nil:
		return err
	case e.value == 0:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return &exitError{syscall.WaitStatus(e.value)}
}

// exitError says that a command of a runtime failed.
type exitError struct {
	status syscall.WaitStatus
}

func (e *exitError) Error() string {
	if e.status.Signaled() {
		return "the runtime was killed by signal " + e.status.Signal().String()
	}
	return fmt.Sprintf("the runtime ended with status %d", e.status.ExitStatus())
}

// endBound bounds the wait for a process that has been killed to be gone: one in an uninterruptible sleep may never be.
const endBound = 10 * time.Second
