//go:build linux

package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// notifier tells when files of cgroups change, inotify(7). All groups of a Tree share one instance, since a user may have only a few (128 by default).
type notifier struct {
	file *os.File
	done chan struct{}

	mu       sync.Mutex
	watchers map[int32]map[*watch]struct{} // by watch descriptor: a file has one, however often it is added
}

// watch is one interest in one file.
type watch struct {
	n  *notifier
	wd int32
	c  chan struct{} // holds at most one token: it has changed since the last one was taken
}

func newNotifier() (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch cgroups: %w", os.NewSyscallError("inotify_init1", err))
	}
	n := &notifier{file: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{}), watchers: make(map[int32]map[*watch]struct{})}
	go n.run()
	return n, nil
}

// close ends the notifier and joins its goroutine.
func (n *notifier) close() error {
	err := n.file.Close()
	<-n.done
	return err
}

func (n *notifier) run() {
	defer close(n.done)
	buf := make([]byte, 64*unix.SizeofInotifyEvent)
	for {
		got, err := n.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		n.dispatch(buf[:got])
	}
}

// dispatch wakes the watchers of each event. A queue that overflowed wakes all.
func (n *notifier) dispatch(b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		name := int(binary.NativeEndian.Uint32(b[12:]))
		b = b[min(unix.SizeofInotifyEvent+name, len(b)):]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, set := range n.watchers {
				wake(set)
			}
			continue
		}
		wake(n.watchers[wd])
		if mask&unix.IN_IGNORED != 0 { // the file is gone, and the descriptor will not be used again
			delete(n.watchers, wd)
		}
	}
}

func wake(set map[*watch]struct{}) {
	for w := range set {
		select {
		case w.c <- struct{}{}:
		default:
		}
	}
}

// add begins to watch a file. close must follow.
func (n *notifier) add(path string) (*watch, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var wd int
	var addErr error
	raw, err := n.file.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { wd, addErr = unix.InotifyAddWatch(int(fd), path, unix.IN_MODIFY) })
	}
	if err = errors.Join(err, addErr); err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", path, err)
	}
	w := &watch{n: n, wd: int32(wd), c: make(chan struct{}, 1)}
	if n.watchers[w.wd] == nil {
		n.watchers[w.wd] = make(map[*watch]struct{})
	}
	n.watchers[w.wd][w] = struct{}{}
	return w, nil
}

// close ends the interest, and the watch of the file with the last.
func (w *watch) close() {
	n := w.n
	n.mu.Lock()
	defer n.mu.Unlock()
	set := n.watchers[w.wd]
	if _, ok := set[w]; !ok {
		return
	}
	delete(set, w)
	if len(set) > 0 {
		return
	}
	delete(n.watchers, w.wd)
	if raw, err := n.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(w.wd)) })
	}
}
