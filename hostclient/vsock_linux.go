package hostclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/mdlayher/vsock"
)

// Dial connects without blocking and waits for the outcome (mdlayher/socket does): a connect(2) on AF_VSOCK that a signal interrupted must not be
// called again, since the kernel has given that attempt up and a second request for the same ports is answered by a reset.
func (cid vsockTransport) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	conn, err := vsock.DialContext(ctx, uint32(cid), port, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot dial guest port %d: %w", port, err)
	}
	return conn, nil
}

// anyCID is VMADDR_CID_ANY of vsock(7).
const anyCID = 1<<32 - 1

func (cid vsockTransport) Listen(port uint32) (net.Listener, error) {
	l, err := vsock.ListenContextID(anyCID, port, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on host port %d: %w", port, err)
	}
	return &vsockListener{Listener: l, cid: uint32(cid)}, nil
}

// vsockListener drops the connections of every CID but one: any guest of the host, and any process on it, may dial a port.
type vsockListener struct {
	net.Listener
	cid uint32
}

func (l *vsockListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if errors.Is(err, syscall.EBADF) { // closed between two of them
			err = net.ErrClosed
		}
		if err != nil {
			return nil, err
		}
		if peer, ok := conn.RemoteAddr().(*vsock.Addr); ok && peer.ContextID == l.cid {
			return conn, nil
		}
		conn.Close()
	}
}
