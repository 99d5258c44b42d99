//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/agent/seccomp"
)

// Entry is what an exec needs of a running container. Its files are the caller's, to Close.
type Entry struct {
	Init   *os.File // pidfd of the first process
	Cgroup *os.File // directory of the cgroup to fork into
}

// Close closes the entry's files.
func (e *Entry) Close() error {
	var errs []error
	if e.Init != nil {
		errs = append(errs, e.Init.Close())
	}
	if e.Cgroup != nil {
		errs = append(errs, e.Cgroup.Close())
	}
	return errors.Join(errs...)
}

// Enter opens what an exec needs. FAILED_PRECONDITION: the container has exited or is frozen.
func (c *Container) Enter() (_ *Entry, err error) {
	if err := c.notFrozen(); err != nil {
		return nil, err
	}
	e := new(Entry)
	defer func() {
		if err != nil {
			_ = e.Close()
		}
	}()
	if e.Init, err = c.dupInit(); err != nil {
		return nil, err
	}
	if e.Cgroup, err = c.group.OpenFor(c.pid); err != nil {
		return nil, c.enterError(err)
	}
	return e, nil
}

func (c *Container) notFrozen() error {
	if frozen, _ := c.group.Frozen(); frozen {
		return failure.New(errdefs.ErrFailedPrecondition, "container %s is paused", c.id)
	}
	return nil
}

// Root opens the container's root, with its mounts. The caller closes it. FAILED_PRECONDITION: the container has exited or is frozen; what serves its file systems may be frozen with it.
func (c *Container) Root() (*rootfs.Dir, error) {
	if err := c.notFrozen(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil, c.hasExited()
	}
	root, err := rootfs.OfProcess(c.pid, c.pidfd)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil, c.hasExited()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot enter container %s: %w", c.id, err)
	}
	return root, nil
}

// enterError explains an error by the container's end where that is what happened meanwhile.
func (c *Container) enterError(err error) error {
	select {
	case <-c.done:
		return c.hasExited()
	default:
		return fmt.Errorf("cannot enter container %s: %w", c.id, err)
	}
}

func (c *Container) hasExited() error {
	return failure.New(errdefs.ErrFailedPrecondition, "container %s has exited", c.id)
}

// Init gives the pid of the first process, and a pidfd, which the caller closes. FAILED_PRECONDITION: it has ended.
func (c *Container) Init() (pid int, file *os.File, err error) {
	file, err = c.dupInit()
	return c.pid, file, err
}

func (c *Container) dupInit() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil, c.hasExited()
	}
	fd, err := unix.FcntlInt(c.pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot enter container %s: %w", c.id, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Spec gives the container's spec, which nobody may change.
func (c *Container) Spec() *specs.Spec { return c.spec }

// OOMKills counts the processes of the container that were killed for lack of memory.
func (c *Container) OOMKills() uint64 { return c.group.OOMKills() }

// PIDs lists the container's processes.
func (c *Container) PIDs() ([]int, error) { return c.group.PIDs() }

// Seccomp gives the spec's filter.
func (c *Container) Seccomp() seccomp.Filter { return c.seccomp.Filter }

// MemoryPolicy gives the spec's NUMA policy in the kernel's numbers; nil if it has none.
func (c *Container) MemoryPolicy() *configs.LinuxMemoryPolicy { return c.memory }

// ID gives the container's id.
func (c *Container) ID() string { return c.id }
