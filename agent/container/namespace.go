//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// namespaceFiles are the names, in /proc/PID/ns, of the namespaces that containers can share. A mount namespace is a container's root, a cgroup namespace the view of its cgroup: these are its own.
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.NetworkNamespace: "net",
	specs.IPCNamespace:     "ipc",
	specs.UTSNamespace:     "uts",
	specs.PIDNamespace:     "pid",
	specs.UserNamespace:    "user",
	specs.TimeNamespace:    "time",
}

// OpenNamespace opens a namespace of the process behind file, a pidfd, whose pid is given. ESRCH: it has ended. The caller closes the namespace, which lives at least that long.
func OpenNamespace(pid int, file *os.File, t specs.LinuxNamespaceType) (*os.File, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, namespaceFiles[t]))
	if pidfd.Await(file, 0) { // the pid may be a stranger's by now
		if err == nil {
			_ = ns.Close()
		}
		return nil, unix.ESRCH
	}
	return ns, err
}

// Namespace opens a namespace of the container, of a type that CheckShares allows. FAILED_PRECONDITION: the container has exited. The caller closes it.
func (c *Container) Namespace(t specs.LinuxNamespaceType) (*os.File, error) {
	init, err := c.dupInit()
	if err != nil {
		return nil, err
	}
	defer init.Close()
	ns, err := OpenNamespace(c.pid, init, t)
	if errors.Is(err, unix.ESRCH) {
		return nil, c.hasExited()
	}
	return ns, err
}
