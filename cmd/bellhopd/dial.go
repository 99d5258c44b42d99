//go:build linux && cgo

package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// vsockConn is a connection to the host. vsock.Conn would do, but to dial one takes a dozen system calls that nobody needs, and an exec waits for that.
type vsockConn struct {
	*os.File
	peer *vsock.Addr
}

// LocalAddr is any: to ask the kernel takes a system call, and nobody does.
func (c *vsockConn) LocalAddr() net.Addr {
	return &vsock.Addr{ContextID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY}
}
func (c *vsockConn) RemoteAddr() net.Addr { return c.peer }

// dialVsock connects to a port. An attempt that was interrupted is not repeated: the kernel would send a second request for the same pair of ports.
func dialVsock(ctx context.Context, cid, port uint32) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port})
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c := &vsockConn{File: os.NewFile(uintptr(fd), "vsock"), peer: &vsock.Addr{ContextID: cid, Port: port}} // in the runtime's poller
	if err == unix.EINPROGRESS {
		err = c.connected(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// connected waits until the attempt to connect has an outcome, or ctx ends.
func (c *vsockConn) connected(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var outcome error
	err = raw.Write(func(fd uintptr) bool {
		_, perr := unix.Getpeername(int(fd))
		if perr == nil {
			return true
		}
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
		outcome = os.NewSyscallError("connect", err)
		return outcome != nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return outcome
}
