//go:build linux

package extruntime

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rlimit"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/agent/spawn"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// execSpec checks p and makes the runtime-spec's form of it, for exec --process. What p leaves open is taken from the container's own process, as for execs in built-in
// containers. A filter for system calls is the runtime's to set: all known ones use the container's.
func execSpec(p *pb.Process, of *specs.Process, open func() (*rootfs.Dir, error)) (*specs.Process, error) {
	if err := spawn.CheckProcess(p); err != nil {
		return nil, err
	}
	id, err := spawn.Identify(p, open)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(p.Rlimits)
	if err != nil {
		return nil, err
	}
	out := &specs.Process{
		Terminal: p.Terminal,
		User:     specs.User{UID: id.UID, GID: id.GID, AdditionalGids: id.Groups},
		Args:     p.Args, Env: id.Env, Cwd: or(p.Cwd, "/"),
		Capabilities: of.Capabilities, Rlimits: limits, NoNewPrivileges: p.NoNewPrivileges,
		ApparmorProfile: or(p.ApparmorProfile, of.ApparmorProfile), SelinuxLabel: or(p.SelinuxLabel, of.SelinuxLabel),
		OOMScoreAdj: of.OOMScoreAdj,
	}
	if p.User != nil {
		out.User.Umask = p.User.Umask
	}
	if c := p.Capabilities; c != nil {
		out.Capabilities = &specs.LinuxCapabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	setScheduling(out, p)
	return out, setScore(out, p)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// rlimits converts limits, with defaults in the place of the agent's own.
func rlimits(in []*pb.Rlimit) ([]specs.POSIXRlimit, error) {
	var out []specs.POSIXRlimit
	for _, l := range in {
		_, ok := rlimit.Number(l.Type)
		switch {
		case !ok:
			return nil, failure.Field("process.rlimits", "no such limit as %.64q", l.Type)
		case slices.ContainsFunc(out, func(have specs.POSIXRlimit) bool { return have.Type == l.Type }):
			return nil, failure.Field("process.rlimits", "%s is there twice", l.Type)
		case l.Soft > l.Hard:
			return nil, failure.Field("process.rlimits", "%s: the soft limit is above the hard one", l.Type)
		}
		out = append(out, specs.POSIXRlimit{Type: l.Type, Soft: l.Soft, Hard: l.Hard})
	}
	return withDefaults(out), nil
}

func setScore(out *specs.Process, p *pb.Process) error {
	if p.OomScoreAdj == nil {
		return nil
	}
	score := int(*p.OomScoreAdj)
	if score < -1000 || score > 1000 {
		return failure.Field("process.oom_score_adj", "%d, must be -1000 to 1000", score)
	}
	out.OOMScoreAdj = &score
	return nil
}

// setScheduling sets what only newer runtimes know. Others ignore it.
func setScheduling(out *specs.Process, p *pb.Process) {
	if s := p.Scheduler; s != nil {
		out.Scheduler = &specs.Scheduler{
			Policy: specs.LinuxSchedulerPolicy(s.Policy), Nice: s.Nice, Priority: s.Priority, Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
		}
		for _, f := range s.Flags {
			out.Scheduler.Flags = append(out.Scheduler.Flags, specs.LinuxSchedulerFlag(f))
		}
	}
	if io := p.IoPriority; io != nil {
		out.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPriorityClass(io.Class), Priority: int(io.Priority)}
	}
	if a := p.CpuAffinity; a != nil {
		out.ExecCPUAffinity = &specs.CPUAffinity{Initial: a.Initial, Final: a.Final}
	}
}
