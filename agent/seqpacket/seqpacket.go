//go:build linux

// Package seqpacket has what the agent needs of SOCK_SEQPACKET sockets, unix(7), over which its C processes talk to it: whole messages, with file descriptors.
package seqpacket

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pair gives a pair of sockets, both closed on exec: the local one is non-blocking, for the Go runtime to poll, and the remote one blocks, for C. The caller closes both.
func Pair(name string) (local, remote *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		CloseAll(fds[:])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// Receive waits for one message and gives its length and its file descriptors, which are the caller's and closed on exec. A message longer than b is cut to it, and descriptors
// beyond what control has room for are closed by the kernel. The error is io.EOF when the peer has closed and all that it sent was received; an empty message looks the same.
func Receive(conn syscall.RawConn, b, control []byte) (n int, fds []int, err error) {
	var controlLen int
	var rerr error
	err = conn.Read(func(fd uintptr) bool {
		n, controlLen, rerr = recvmsg(int(fd), b, control)
		return rerr != unix.EAGAIN
	})
	if err == nil {
		err = rerr
	}
	if err != nil {
		return 0, nil, err
	}
	fds, err = Rights(control[:controlLen])
	if err == nil && n == 0 {
		CloseAll(fds)
		return 0, nil, io.EOF
	}
	return n, fds, err
}

// recvmsg looks twice before it believes in the end. The kernel looks for a message first and then, without a lock that spans both, whether the peer has closed: one who sends and
// closes in between has its last message hidden behind an end of file (unix_dgram_recvmsg, Linux 6.1 to 6.18 at least). Once the peer has closed nothing is added, so the second look is right.
func recvmsg(fd int, b, control []byte) (n, controlLen int, err error) {
	for looks := 0; ; {
		n, controlLen, _, _, err = unix.Recvmsg(fd, b, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
		case err == nil && n == 0 && controlLen == 0 && looks == 0:
			looks++
		default:
			return n, controlLen, err
		}
	}
}

// Rights gives the file descriptors of control messages, which are the caller's; with an error they are closed.
func Rights(control []byte) ([]int, error) {
	if len(control) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			CloseAll(fds)
			return nil, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

// CloseAll closes file descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
