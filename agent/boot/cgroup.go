//go:build linux && cgo

package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The cgroups that Bellhop makes beneath the one it was given. The agent has one
// of its own so that no limit of a container is ever the agent's, and since only
// leaves may hold processes.
const (
	agentCgroup      = "bellhop-agent"
	containersCgroup = "bellhop"
)

// cgroupMount is where the table of file systems mounts cgroup v2.
const cgroupMount = "/sys/fs/cgroup"

// cgroups is a cgroup v2 hierarchy: mount is where it is mounted, and all other
// paths are relative to it and begin with a slash, as in /proc/PID/cgroup.
type cgroups struct {
	mount string
}

// layOut moves the agent to a cgroup of its own beneath own, which is the
// agent's to govern, and returns the one for containers: empty if there is none,
// usable with fewer controllers if it comes with an error.
func (c cgroups) layOut(own string, pid int) (containers string, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.mount, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", fmt.Errorf("no cgroup v2 is mounted on %s", c.mount)
	}
	if err := c.moveTo(path.Join(own, agentCgroup), pid); err != nil {
		return "", err
	}
	containers = path.Join(own, containersCgroup)
	if err := os.MkdirAll(c.file(containers), 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cgroup of containers: %w", err)
	}
	if err := c.enableControllers(own); err != nil {
		return containers, err
	}
	return containers, c.enableControllers(containers)
}

// layOutService is layOut beneath the cgroup in which another init started the
// agent, given by /proc/PID/cgroup. It must be delegated to the agent.
func (c cgroups) layOutService(content string, pid int) (containers string, err error) {
	own, err := ownCgroup(content)
	if err != nil {
		return "", err
	}
	containers, err = c.layOut(own, pid)
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS):
		err = fmt.Errorf("%w (is the agent's cgroup delegated to it, as by systemd's Delegate=yes?)", err)
	case errors.Is(err, unix.EBUSY):
		err = fmt.Errorf("%w (other processes live in the agent's cgroup %s: start it in one of its own)", err, own)
	}
	return containers, err
}

func (c cgroups) file(elem ...string) string {
	return filepath.Join(append([]string{c.mount}, elem...)...)
}

// moveTo makes the cgroup and moves the whole process there.
func (c cgroups) moveTo(cgroup string, pid int) error {
	if err := os.MkdirAll(c.file(cgroup), 0o755); err != nil {
		return fmt.Errorf("cannot make the agent's cgroup: %w", err)
	}
	if err := writeExisting(c.file(cgroup, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("cannot move the agent to its cgroup: %w", err)
	}
	return nil
}

// enableControllers makes every controller of cgroup available to its children:
// one by one, since a write that names several enables all or none.
func (c cgroups) enableControllers(cgroup string) error {
	available, err := os.ReadFile(c.file(cgroup, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cannot enable controllers: %w", err)
	}
	var errs []error
	for _, name := range strings.Fields(string(available)) {
		if err := writeExisting(c.file(cgroup, "cgroup.subtree_control"), "+"+name); err != nil {
			errs = append(errs, fmt.Errorf("cannot enable controller %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// ownCgroup returns the v2 cgroup that the content of a /proc/PID/cgroup file
// names: the one that the agent was started in, also when it has moved since.
func ownCgroup(content string) (string, error) {
	for line := range strings.Lines(content) {
		if own, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok && path.IsAbs(own) {
			if path.Base(own) == agentCgroup {
				own = path.Dir(own)
			}
			return own, nil
		}
	}
	return "", errors.New("the agent is in no cgroup of version 2")
}

// writeExisting writes to a file of the kernel's. Unlike os.WriteFile it makes
// none where the file system turns out to be another.
func writeExisting(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}
