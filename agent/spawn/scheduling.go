//go:build linux

package spawn

import (
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fillScheduling sets scheduler, IO priority and CPU affinity: those of the request, else of the container.
func fillScheduling(req *nursery.Request, p *pb.Process, c *container.Container) error {
	sched, io, cpus := p.Scheduler, p.IoPriority, p.CpuAffinity
	if c != nil {
		sched, io, cpus = schedulingOf(c.Spec().Process, sched, io, cpus)
	}
	var err error
	if sched != nil {
		if req.Scheduler, err = configs.ToSchedAttr(scheduler(sched)); err != nil {
			return failure.Field("process.scheduler", "%v", err)
		}
	}
	if io != nil {
		if req.IOPriority, err = ioPriority(io); err != nil {
			return err
		}
	}
	if cpus != nil {
		req.Affinity, err = affinity(cpus)
	}
	return err
}

// schedulingOf takes from the spec's process what is nil.
func schedulingOf(s *specs.Process, sched *pb.Scheduler, io *pb.IOPriority, cpus *pb.CPUAffinity) (*pb.Scheduler, *pb.IOPriority, *pb.CPUAffinity) {
	if own := s.Scheduler; sched == nil && own != nil {
		sched = &pb.Scheduler{Policy: string(own.Policy), Nice: own.Nice, Priority: own.Priority, Runtime: own.Runtime, Deadline: own.Deadline, Period: own.Period}
		for _, f := range own.Flags {
			sched.Flags = append(sched.Flags, string(f))
		}
	}
	if own := s.IOPriority; io == nil && own != nil {
		io = &pb.IOPriority{Class: string(own.Class), Priority: int32(own.Priority)}
	}
	if own := s.ExecCPUAffinity; cpus == nil && own != nil {
		cpus = &pb.CPUAffinity{Initial: own.Initial, Final: own.Final}
	}
	return sched, io, cpus
}

func scheduler(s *pb.Scheduler) *specs.Scheduler {
	out := &specs.Scheduler{
		Policy: specs.LinuxSchedulerPolicy(s.Policy), Nice: s.Nice, Priority: s.Priority,
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}
	for _, f := range s.Flags {
		out.Flags = append(out.Flags, specs.LinuxSchedulerFlag(f))
	}
	return out
}

// ioPriority gives class<<13 | priority, ioprio_set(2).
func ioPriority(p *pb.IOPriority) (uint16, error) {
	classes := map[string]uint16{"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
	class, ok := classes[p.Class]
	if !ok {
		return 0, failure.Field("process.io_priority.class", "no such class as %.64q", p.Class)
	}
	if p.Priority < 0 || p.Priority > 7 {
		return 0, failure.Field("process.io_priority.priority", "%d, must be 0 to 7", p.Priority)
	}
	return class<<13 | uint16(p.Priority), nil
}

// affinity gives the CPUs of the running program. The initial ones, for the time before, matter only where no final ones are given: that time is short here.
func affinity(a *pb.CPUAffinity) (*unix.CPUSet, error) {
	list := a.Final
	if list == "" {
		list = a.Initial
	}
	set, err := configs.ToCPUSet(list)
	if err != nil {
		return nil, failure.Field("process.cpu_affinity", "%v", err)
	}
	return set, nil
}
