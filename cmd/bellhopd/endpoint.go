//go:build linux && cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// endpoint is how the agent reaches its host and is reached by it.
type endpoint struct {
	// listen opens the listener of control connections, which its caller closes.
	listen func() (net.Listener, error)

	// allow says why a peer of the listener is refused, or nil.
	allow func(peer net.Addr) error

	// dial connects to a port on which the host listens.
	dial func(ctx context.Context, port uint32) (net.Conn, error)
}

// vsockEndpoint listens on an AF_VSOCK port, for peers with the given CIDs only,
// and dials the first of them.
func vsockEndpoint(port uint32, cids []uint32) endpoint {
	return endpoint{
		listen: func() (net.Listener, error) { return listenVsock(port) },
		allow:  func(peer net.Addr) error { return allowCID(cids, peer) },
		dial: func(ctx context.Context, port uint32) (net.Conn, error) {
			return dialVsock(ctx, cids[0], port)
		},
	}
}

func listenVsock(port uint32) (net.Listener, error) {
	// Not vsock.Listen, which binds to the CID that the machine has now: a
	// restored snapshot has another.
	l, err := vsock.ListenContextID(unix.VMADDR_CID_ANY, port, nil)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("cannot listen on vsock port %d: %w (the kernel needs the module vmw_vsock_virtio_transport)", port, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on vsock port %d: %w", port, err)
	}
	return l, nil
}

// allowCID says why peer, a vsock address, may not connect, or returns nil.
func allowCID(cids []uint32, peer net.Addr) error {
	addr, ok := peer.(*vsock.Addr)
	if !ok {
		return fmt.Errorf("%v is not a vsock address", peer)
	}
	if !slices.Contains(cids, addr.ContextID) {
		return fmt.Errorf("CID %d is not one of those allowed, %d", addr.ContextID, cids)
	}
	return nil
}

// unixEndpoint listens on a unix socket at path, and dials the host's port N at
// path_N, as hybrid vsock does.
func unixEndpoint(path string) endpoint {
	return endpoint{
		listen: func() (net.Listener, error) { return listenUnix(path) },
		allow:  func(net.Addr) error { return nil },
		dial: func(ctx context.Context, port uint32) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path+"_"+strconv.FormatUint(uint64(port), 10))
		},
	}
}

// listenUnix makes a socket that only the same user can reach. One that a killed
// agent left behind is replaced.
func listenUnix(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	mask := syscall.Umask(0o077)
	l, err := net.Listen("unix", path)
	syscall.Umask(mask)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	if st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("cannot listen on %s: it exists and is not a socket", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("cannot listen on %s: another process listens there", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	return nil
}
