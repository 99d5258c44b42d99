//go:build linux

package nursery

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// A call is one request under way: the agent's end of its reply socket and what has been read from it.
type call struct {
	seq     uint64
	socket  *os.File
	conn    syscall.RawConn
	control []byte // room for a file descriptor; nil: none is expected

	pid    int      // once the fork is known
	master *os.File // of the terminal, once the child has sent it
	failed *reply
}

// newCall gives a call and the other end of its socket, which goes to the nursery.
func newCall(seq uint64, terminal bool) (*call, *os.File, error) {
	local, remote, err := socketPair("reply")
	if err != nil {
		return nil, nil, err
	}
	c := &call{seq: seq, socket: local}
	if c.conn, err = local.SyscallConn(); err != nil {
		local.Close()
		remote.Close()
		return nil, nil, err
	}
	if terminal {
		c.control = make([]byte, unix.CmsgSpace(4))
	}
	return c, remote, nil
}

// close gives up what the call holds. The master is the caller's once it has been taken out.
func (c *call) close() {
	c.socket.Close()
	if c.master != nil {
		c.master.Close()
	}
}

// wake makes a read return with os.ErrDeadlineExceeded.
func (c *call) wake() { _ = c.socket.SetReadDeadline(time.Unix(1, 0)) }

// next reads one reply into the call. At the end of file, which comes when neither nursery nor child holds the other end any more, it returns io.EOF.
func (c *call) next() error {
	var b [2 * 16]byte // longer than a reply, so that a longer one shows
	n, files, err := c.receive(b[:])
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	r, err := parseReply(b[:n])
	if err == nil {
		err = c.take(r, files)
	}
	if err != nil {
		closeAll(files)
	}
	return err
}

// take notes a reply. Each kind comes at most once: the child is not trusted.
func (c *call) take(r reply, files []int) error {
	switch {
	case r.kind == replyForked && c.pid == 0 && len(files) == 0:
		c.pid = int(r.value)
	case r.kind == replyFailed && c.failed == nil && len(files) == 0:
		c.failed = &r
	case r.kind == replyMaster && c.master == nil && len(files) == 1:
		if err := unix.SetNonblock(files[0], true); err != nil {
			return err
		}
		c.master = os.NewFile(uintptr(files[0]), "terminal")
	default:
		return errReply
	}
	return nil
}

func (c *call) receive(b []byte) (n int, files []int, err error) {
	var controlLen int
	var rerr error
	err = c.conn.Read(func(fd uintptr) bool {
		for {
			n, controlLen, _, _, rerr = unix.Recvmsg(int(fd), b, c.control, unix.MSG_CMSG_CLOEXEC)
			if rerr != unix.EINTR {
				return rerr != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = rerr
	}
	if err != nil {
		return 0, nil, err
	}
	files, err = rights(c.control[:controlLen])
	return n, files, err
}

// rights gives the file descriptors of a control message.
func rights(control []byte) ([]int, error) {
	if len(control) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return unix.ParseUnixRights(&messages[0])
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// awaitFork reads until the pid is known. It returns io.EOF when the nursery has failed the request or has died, and os.ErrDeadlineExceeded when the bound is over or the call is woken.
func (c *call) awaitFork(bound time.Duration) error {
	if err := c.socket.SetReadDeadline(time.Now().Add(bound)); err != nil {
		return err
	}
	for c.pid == 0 {
		if err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

// awaitExec reads until the child has executed, failed or died. It returns the context's error when one of the contexts ends before; each of them must wake the call.
func (c *call) awaitExec(contexts ...context.Context) error {
	for {
		// The deadline is cleared before the contexts are looked at, so that no wake is lost.
		if err := c.socket.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		for _, ctx := range contexts {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		var err error
		for err == nil {
			err = c.next()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// child hands the process over to the waiter and to the caller.
func (c *call) child(w *pidfd.Waiter, fd *os.File) (*Child, error) {
	exited := make(chan pidfd.Status, 1)
	if err := w.Add(c.pid, fd, func(s pidfd.Status) { exited <- s }); err != nil {
		return nil, err
	}
	started := &Child{PID: c.pid, PIDFD: fd, Master: c.master, Exited: exited}
	c.master = nil
	return started, nil
}
