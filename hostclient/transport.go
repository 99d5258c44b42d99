package hostclient

import (
	"context"
	"net"
)

// Transport reaches a virtual machine's vsock ports. [HybridSocket], [Vsock], [NewUnixPorts] and Bellhop's own vmm.VM are transports; [TransportFuncs]
// makes one of two functions.
//
// Connections must carry deadlines (SetDeadline), and Close must unblock what is going on.
type Transport interface {
	// Dial connects to a port on which the guest listens. It tries once; where nobody listens yet it fails, and the client tries again. An
	// error that wraps net.ErrClosed or errors.ErrUnsupported says that trying again is of no use.
	Dial(ctx context.Context, port uint32) (net.Conn, error)

	// Listen accepts what this guest, and no other, dials at a port of the host. It fails where the port is in use.
	Listen(port uint32) (net.Listener, error)
}

// TransportFuncs is a [Transport] of two functions. Both must be set.
type TransportFuncs struct {
	DialFunc   func(ctx context.Context, port uint32) (net.Conn, error)
	ListenFunc func(port uint32) (net.Listener, error)
}

// Dial calls DialFunc.
func (t TransportFuncs) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	return t.DialFunc(ctx, port)
}

// Listen calls ListenFunc.
func (t TransportFuncs) Listen(port uint32) (net.Listener, error) { return t.ListenFunc(port) }
