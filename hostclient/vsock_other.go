//go:build !linux

package hostclient

import (
	"context"
	"errors"
	"fmt"
	"net"
)

func (vsockTransport) Dial(context.Context, uint32) (net.Conn, error) {
	return nil, fmt.Errorf("AF_VSOCK: %w", errors.ErrUnsupported)
}

func (vsockTransport) Listen(uint32) (net.Listener, error) {
	return nil, fmt.Errorf("AF_VSOCK: %w", errors.ErrUnsupported)
}
