//go:build linux

package container

import (
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/builtin"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// checkBuiltIn refuses what a built-in first process cannot do, and completes the spec of one that only pauses.
func checkBuiltIn(s *specs.Spec, first pb.BuiltIn) error {
	var err error
	switch first {
	case pb.BuiltIn_BUILT_IN_NONE:
		return nil
	case pb.BuiltIn_BUILT_IN_INIT:
		err = checkInit(s.Process)
	case pb.BuiltIn_BUILT_IN_PAUSE:
		err = completePause(s)
	default:
		err = failure.Field("built_in", "no such program as %d", first)
	}
	if err == nil && !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == "/proc" }) {
		err = failure.Field("mounts", "a built-in first process needs a /proc")
	}
	return err
}

// checkInit refuses what the program would not inherit from its init, sched(7).
func checkInit(p *specs.Process) error {
	if p != nil && p.Scheduler != nil && slices.Contains(p.Scheduler.Flags, specs.SchedFlagResetOnFork) {
		return failure.Field("process.scheduler.flags", "%s, which ends with the init's fork", specs.SchedFlagResetOnFork)
	}
	if p != nil && p.Scheduler != nil && p.Scheduler.Policy == specs.SchedDeadline {
		return failure.Field("process.scheduler.policy", "%s, with which the init cannot fork", specs.SchedDeadline)
	}
	return nil
}

func completePause(s *specs.Spec) error {
	if s.Process == nil {
		s.Process = new(specs.Process)
	}
	switch p := s.Process; {
	case len(p.Args) > 0:
		return failure.Field("process.args", "a pause process takes none")
	case p.Terminal:
		return failure.Field("process.terminal", "a pause process has none")
	case p.Cwd == "":
		p.Cwd = "/"
	}
	s.Process.Args = builtin.PauseArgs()
	return nil
}

// firstArgs gives the command line of the container's first process.
func (r *Request) firstArgs() []string {
	if r.BuiltIn == pb.BuiltIn_BUILT_IN_INIT {
		return builtin.InitArgs(r.Spec.Process.Args)
	}
	return r.Spec.Process.Args
}

// makeRoot makes an empty root for a container that needs none: what is mounted in it gets its place there, and then it is read-only.
func (r *Runtime) makeRoot(id string) (string, error) {
	if err := os.MkdirAll(r.cfg.Roots, 0o711); err != nil {
		return "", fmt.Errorf("cannot make an empty root: %w", err)
	}
	dir, err := os.MkdirTemp(r.cfg.Roots, id+"-")
	if err != nil {
		return "", fmt.Errorf("cannot make an empty root: %w", err)
	}
	return dir, os.Chmod(dir, 0o755)
}

// giveRoot makes the root that of the container's root user, who makes the places for mounts in it.
func giveRoot(dir string, cfg *configs.Config) error {
	uid, err := cfg.HostRootUID()
	if err != nil {
		return fmt.Errorf("cannot make an empty root: %w", err)
	}
	gid, err := cfg.HostRootGID()
	if err != nil {
		return fmt.Errorf("cannot make an empty root: %w", err)
	}
	return os.Chown(dir, uid, gid)
}

// programExit gives the end of an init's program by the word of the init, which itself cannot end by the same signal when it is the first of a PID namespace. The word only tells apart what the init's own
// exit code leaves open.
func programExit(e process.Exit, status *os.File) process.Exit {
	s, ok := builtin.ReadStatus(status)
	if ok && s.Signaled() && e.Signal == 0 && e.Code == 128+int(s.Signal()) {
		e.Code, e.Signal, e.Core = -1, s.Signal(), s.CoreDump()
	}
	return e
}
