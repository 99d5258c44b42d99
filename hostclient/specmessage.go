package hostclient

import (
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// processMessage converts the process object of the OCI runtime-spec to its message.
func processMessage(p *specs.Process) (*pb.Process, error) {
	if p.CommandLine != "" {
		return nil, invalid("commandLine is for Windows")
	}
	m := &pb.Process{
		Terminal:        p.Terminal,
		User:            userMessage(p.User),
		Args:            p.Args,
		Env:             p.Env,
		Cwd:             p.Cwd,
		NoNewPrivileges: p.NoNewPrivileges,
		ApparmorProfile: p.ApparmorProfile,
		SelinuxLabel:    p.SelinuxLabel,
	}
	if c := p.Capabilities; c != nil {
		m.Capabilities = &pb.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	for _, r := range p.Rlimits {
		m.Rlimits = append(m.Rlimits, &pb.Rlimit{Type: r.Type, Soft: r.Soft, Hard: r.Hard})
	}
	if err := setScheduling(m, p); err != nil {
		return nil, err
	}
	return m, nil
}

func userMessage(u specs.User) *pb.User {
	return &pb.User{Uid: u.UID, Gid: u.GID, AdditionalGids: u.AdditionalGids, Umask: u.Umask, Username: u.Username}
}

func setScheduling(m *pb.Process, p *specs.Process) error {
	if p.OOMScoreAdj != nil {
		adj, err := int32Of("oomScoreAdj", *p.OOMScoreAdj)
		if err != nil {
			return err
		}
		m.OomScoreAdj = &adj
	}
	if s := p.Scheduler; s != nil {
		m.Scheduler = &pb.Scheduler{
			Policy: string(s.Policy), Nice: s.Nice, Priority: s.Priority, Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
		}
		for _, f := range s.Flags {
			m.Scheduler.Flags = append(m.Scheduler.Flags, string(f))
		}
	}
	if io := p.IOPriority; io != nil {
		priority, err := int32Of("ioPriority.priority", io.Priority)
		if err != nil {
			return err
		}
		m.IoPriority = &pb.IOPriority{Class: string(io.Class), Priority: priority}
	}
	if a := p.ExecCPUAffinity; a != nil {
		m.CpuAffinity = &pb.CPUAffinity{Initial: a.Initial, Final: a.Final}
	}
	return nil
}

func int32Of(field string, n int) (int32, error) {
	if n < math.MinInt32 || n > math.MaxInt32 {
		return 0, invalid("%s of %d is out of range", field, n)
	}
	return int32(n), nil
}

func consoleSize(box *specs.Box) (*pb.Size, error) {
	if box == nil {
		return nil, nil
	}
	return sizeMessage(int(min(box.Width, math.MaxInt32)), int(min(box.Height, math.MaxInt32)))
}

func sizeMessage(columns, rows int) (*pb.Size, error) {
	if columns < 0 || columns > math.MaxUint16 || rows < 0 || rows > math.MaxUint16 {
		return nil, invalid("terminal of %d columns and %d rows, must be 0 to %d", columns, rows, math.MaxUint16)
	}
	return &pb.Size{Columns: uint32(columns), Rows: uint32(rows)}, nil
}
