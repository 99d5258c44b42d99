package vsockdev

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// privateSocket is a net.ListenConfig.Control that gives the socket's file mode 0600 from its first moment: Linux makes
// the file with the mode of the unbound socket.
func privateSocket(_, _ string, rc syscall.RawConn) error {
	var chmodErr error
	if err := rc.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) }); err != nil {
		return err
	}
	return os.NewSyscallError("fchmod", chmodErr)
}

// waitHangup waits until the peer of s has closed it, not only for writing, and reports false when s is closed here first.
func waitHangup(s *net.UnixConn) bool {
	rc, err := s.SyscallConn()
	if err != nil {
		return false
	}
	return rc.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(p, 0)
		return err == nil && p[0].Revents&unix.POLLHUP != 0
	}) == nil
}
