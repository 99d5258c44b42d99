//go:build linux

package extruntime

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/container"
)

// Namespace opens a namespace of the container's first process, of a type that container.CheckShares allows. FAILED_PRECONDITION: it has exited. The caller closes it.
func (c *Container) Namespace(t specs.LinuxNamespaceType) (*os.File, error) {
	init, err := c.init.dup()
	if err == nil {
		defer init.Close()
		var ns *os.File
		if ns, err = container.OpenNamespace(c.init.pid, init, t); err == nil {
			return ns, nil
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, c.hasExited()
	}
	return nil, fmt.Errorf("cannot share a namespace of container %s: %w", c.id, err)
}
