//go:build linux

package container

import (
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
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

// OpenShare opens a namespace of the container owner, of a type that CheckShares allows, and what goes with it. The container's first process is given by pid and pidfd. FAILED_PRECONDITION: it has
// exited. The caller closes the share, and what it is of lives at least that long.
func OpenShare(owner string, pid int, init *os.File, t specs.LinuxNamespaceType) (*Share, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, namespaceFiles[t]))
	s := &Share{Type: t, Owner: owner, file: ns}
	if err == nil && t == specs.IPCNamespace {
		s.shm, err = openShm(pid, init)
	}
	if pidfd.Await(init, 0) { // the pid may be a stranger's by now
		err = failure.New(errdefs.ErrFailedPrecondition, "container %s has exited", owner)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
