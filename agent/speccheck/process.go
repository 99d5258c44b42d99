//go:build linux

package speccheck

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

func checkProcess(s *specs.Spec) error {
	p := s.Process
	u := p.User
	if err := firstBroken(
		rule{u.Username != "" && (u.UID != 0 || u.GID != 0), "process.user.username", "is given, so uid and gid must be 0"},
		rule{u.Umask != nil && *u.Umask > 0o777, "process.user.umask", "must be 0 to 0777"},
		rule{p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000), "process.oomScoreAdj", "must be -1000 to 1000"},
	); err != nil {
		return err
	}
	if b := p.ConsoleSize; p.Terminal && b != nil && (b.Width > math.MaxUint16 || b.Height > math.MaxUint16) {
		return failure.Field("process.consoleSize", "%d columns and %d rows, at most %d", b.Width, b.Height, math.MaxUint16)
	}
	return nil
}

// checkCapabilities refuses unknown names, and sets that the kernel would refuse or cut, capabilities(7).
func checkCapabilities(s *specs.Spec) error {
	c := s.Process.Capabilities
	if c == nil {
		return nil
	}
	known := knownCapabilities(capability.ListKnown())
	for _, set := range capabilitySets(c) {
		if err := subset(set, "that exist", known); err != nil {
			return err
		}
	}
	for _, pair := range []struct {
		set capabilitySet
		of  string
		all []string
	}{
		{capabilitySet{"effective", c.Effective}, "permitted", c.Permitted},
		{capabilitySet{"inheritable", c.Inheritable}, "in the bounding set", c.Bounding},
		{capabilitySet{"ambient", c.Ambient}, "permitted", c.Permitted},
		{capabilitySet{"ambient", c.Ambient}, "inheritable", c.Inheritable},
	} {
		if err := subset(pair.set, pair.of, pair.all); err != nil {
			return err
		}
	}
	return nil
}

type capabilitySet struct {
	name  string
	names []string
}

func capabilitySets(c *specs.LinuxCapabilities) []capabilitySet {
	return []capabilitySet{
		{"bounding", c.Bounding},
		{"effective", c.Effective},
		{"inheritable", c.Inheritable},
		{"permitted", c.Permitted},
		{"ambient", c.Ambient},
	}
}

// knownCapabilities gives the names as a spec has them.
func knownCapabilities(list []capability.Cap) []string {
	var names []string
	for _, c := range list {
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	return names
}

// subset refuses a set with a name that is not among all, which are described as those "that …".
func subset(set capabilitySet, those string, all []string) error {
	for _, name := range set.names {
		if !slices.Contains(all, name) {
			return failure.Field("process.capabilities."+set.name, "%.64q is not among those %s", name, those)
		}
	}
	return nil
}

// checkScheduling checks what the kernel would ignore, and what it would refuse with an errno that does not say which field it means.
func checkScheduling(s *specs.Spec) error {
	if sched := s.Process.Scheduler; sched != nil {
		if err := checkScheduler(sched); err != nil {
			return err
		}
	}
	if io := s.Process.IOPriority; io != nil {
		classes := []specs.IOPriorityClass{specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}
		if err := firstBroken(
			rule{!slices.Contains(classes, io.Class), "process.ioPriority.class", fmt.Sprintf("no such class as %.64q", io.Class)},
			rule{io.Priority < 0 || io.Priority > 7, "process.ioPriority.priority", "must be 0 to 7"},
		); err != nil {
			return err
		}
	}
	if _, err := configs.ConvertCPUAffinity(s.Process.ExecCPUAffinity); err != nil {
		return failure.Field("process.execCPUAffinity", "%v", err)
	}
	return nil
}

func checkScheduler(s *specs.Scheduler) error {
	if _, err := configs.ToSchedAttr(s); err != nil {
		return failure.Field("process.scheduler", "%v", err)
	}
	fair := s.Policy == specs.SchedOther || s.Policy == specs.SchedBatch
	realtime := s.Policy == specs.SchedFIFO || s.Policy == specs.SchedRR
	deadline := s.Policy == specs.SchedDeadline
	return firstBroken(
		rule{s.Nice != 0 && !fair, "process.scheduler.nice", "is for SCHED_OTHER and SCHED_BATCH"},
		rule{s.Nice < -20 || s.Nice > 19, "process.scheduler.nice", "must be -20 to 19"},
		rule{s.Priority != 0 && !realtime, "process.scheduler.priority", "is for SCHED_FIFO and SCHED_RR"},
		rule{realtime && (s.Priority < 1 || s.Priority > 99), "process.scheduler.priority", "must be 1 to 99"},
		rule{s.Runtime != 0 && !deadline, "process.scheduler.runtime", "is for SCHED_DEADLINE"},
		rule{s.Deadline != 0 && !deadline, "process.scheduler.deadline", "is for SCHED_DEADLINE"},
		rule{s.Period != 0 && !deadline, "process.scheduler.period", "is for SCHED_DEADLINE"},
	)
}
