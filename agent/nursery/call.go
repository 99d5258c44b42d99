//go:build linux

package nursery

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A call is one request under way: the agent's end of the reply and what has been read from it.
type call struct {
	file    *os.File
	conn    syscall.RawConn
	control []byte // room for a file descriptor; nil: the reply is a pipe, and none is expected

	master *os.File // of the terminal, once the child has sent it
	failed *reply
}

// newCall gives a call and the other end of its reply, a file descriptor that goes to the nursery.
func newCall(terminal bool) (*call, int, error) {
	var fds [2]int
	var err error
	if terminal {
		fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	} else {
		err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
	}
	if err != nil {
		return nil, -1, os.NewSyscallError("pipe", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		closeAll(fds[:])
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	c := &call{file: os.NewFile(uintptr(fds[0]), "reply")}
	if !terminal {
		return c, fds[1], nil
	}
	c.control = make([]byte, unix.CmsgSpace(4))
	if c.conn, err = c.file.SyscallConn(); err != nil {
		c.file.Close()
		unix.Close(fds[1])
		return nil, -1, err
	}
	return c, fds[1], nil
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
		closeAll(files)
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
	if err == nil && n == 0 {
		err = io.EOF
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
