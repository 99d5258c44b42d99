//go:build linux

package nursery

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seqpacket"
)

// A call is one request under way: the agent's end of the reply and what has been read from it.
type call struct {
	file    *os.File
	conn    syscall.RawConn
	control []byte // room for a file descriptor; nil: the reply is a pipe, and none is expected

	master *os.File // of the terminal, once the child has sent it
	failed *reply
}

// newCall gives a call and the other end of its reply, which goes to the nursery. The caller closes both.
func newCall(terminal bool) (c *call, remote *os.File, err error) {
	c = new(call)
	if !terminal {
		c.file, remote, err = replyPipe()
		return c, remote, err
	}
	if c.file, remote, err = seqpacket.Pair("reply"); err != nil {
		return nil, nil, err
	}
	c.control = make([]byte, unix.CmsgSpace(4))
	if c.conn, err = c.file.SyscallConn(); err != nil {
		c.file.Close()
		remote.Close()
		return nil, nil, err
	}
	return c, remote, nil
}

// replyPipe gives a pipe whose read end the Go runtime polls, and whose write end blocks, for C.
func replyPipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		seqpacket.CloseAll(fds[:])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "reply"), os.NewFile(uintptr(fds[1]), "reply"), nil
}

// close gives up what the call holds. The master is the caller's once it has been taken out.
func (c *call) close() {
	c.file.Close()
	if c.master != nil {
		c.master.Close()
	}
}

// wake makes drain return with os.ErrDeadlineExceeded.
func (c *call) wake() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) }

// drain reads replies into the call until the end of file, which comes when neither nursery nor child holds the other end any more.
func (c *call) drain() error {
	for {
		err := c.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *call) next() error {
	var b [2 * replySize]byte // longer than a reply, so that a longer one shows
	n, files, err := c.receive(b[:])
	if err != nil {
		return err
	}
	r, err := parseReply(b[:n])
	if err == nil {
		err = c.take(r, files)
	}
	if err != nil {
		seqpacket.CloseAll(files)
	}
	return err
}

// take notes a reply. Each kind comes at most once: the child is not trusted.
func (c *call) take(r reply, files []int) error {
	switch {
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
	if c.control == nil {
		n, err = c.file.Read(b)
		return n, nil, err
	}
	return seqpacket.Receive(c.conn, b, c.control)
}
