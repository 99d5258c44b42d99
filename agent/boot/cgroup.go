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

// The cgroups that Bellhop makes. The agent gets one of its own so that
// no limit of a container is ever the agent's, and since only leaves may hold
// processes.
const (
	cgroupMount     = "/sys/fs/cgroup"
	guestAgent      = "bellhop-agent"
	guestContainers = "bellhop"
	serviceAgent    = "agent"
)

// cgroups is a cgroup v2 hierarchy: mount is where it is mounted, and all other
// paths are relative to it and begin with a slash, as in /proc/PID/cgroup.
type cgroups struct {
	mount string
}

// layOutGuest gives the whole hierarchy to Bellhop: the agent moves to a cgroup
// of its own, and the result is the one for containers.
func (c cgroups) layOutGuest(pid int) (string, error) {
	if err := c.moveTo("/"+guestAgent, pid); err != nil {
		return "", err
	}
	root := "/" + guestContainers
	if err := c.enableControllers("/"); err != nil {
		return "", err
	}
	if err := os.MkdirAll(c.file(root), 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cgroup of containers: %w", err)
	}
	return root, c.enableControllers(root)
}

// layOutService works in the cgroup own, in which another init started the
// agent and which it delegated (systemd: Delegate=yes): the agent moves to a
// leaf, and containers go beneath own.
func (c cgroups) layOutService(own string, pid int) (string, error) {
	if err := c.moveTo(path.Join(own, serviceAgent), pid); err != nil {
		return "", fmt.Errorf("%w (is the agent's cgroup delegated to it, as by systemd's Delegate=yes?)", err)
	}
	err := c.enableControllers(own)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w (other processes live in the agent's cgroup: start it as a service of its own)", err)
	}
	return own, err
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

// enableControllers makes every controller of cgroup available to its children.
func (c cgroups) enableControllers(cgroup string) error {
	available, err := os.ReadFile(c.file(cgroup, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cannot enable controllers: %w", err)
	}
	var request []string
	for _, name := range strings.Fields(string(available)) {
		request = append(request, "+"+name)
	}
	if len(request) == 0 {
		return nil
	}
	if err := writeExisting(c.file(cgroup, "cgroup.subtree_control"), strings.Join(request, " ")); err != nil {
		return fmt.Errorf("cannot enable controllers: %w", err)
	}
	return nil
}

// ownCgroup returns the v2 cgroup of the content of a /proc/PID/cgroup file.
func ownCgroup(content string) (string, error) {
	for line := range strings.Lines(content) {
		if own, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok && path.IsAbs(own) {
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
