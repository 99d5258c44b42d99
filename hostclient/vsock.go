package hostclient

// Vsock is the [Transport] over AF_VSOCK, Linux's own vsock sockets, to the guest with the context id cid. It accepts connections of this guest only.
// On other systems its functions fail with errors.ErrUnsupported.
func Vsock(cid uint32) Transport { return vsockTransport(cid) }

type vsockTransport uint32
