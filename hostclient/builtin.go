package hostclient

import "github.com/bellhop-vm/bellhop/protocol/pb"

// BuiltIn is a program of the agent's that can be a container's first process. It needs a /proc in the container, and nothing in its root.
type BuiltIn int

const (
	// NoBuiltIn runs the spec's process itself.
	NoBuiltIn = BuiltIn(pb.BuiltIn_BUILT_IN_NONE)

	// BuiltInInit runs the spec's process as the child of a small init, which reaps orphans, passes signals on (but SIGKILL and SIGSTOP, which are its own to suffer) and ends when its child
	// does. As the first process of a PID namespace a program is deaf to signals that it does not handle, and must itself reap; a child of the init is an ordinary process.
	BuiltInInit = BuiltIn(pb.BuiltIn_BUILT_IN_INIT)

	// BuiltInPause does nothing but hold the container's namespaces, reap orphans if it has a PID namespace, and end at SIGTERM or SIGINT. The spec has no arguments and may leave out the root.
	BuiltInPause = BuiltIn(pb.BuiltIn_BUILT_IN_PAUSE)
)
