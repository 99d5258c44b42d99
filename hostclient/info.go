package hostclient

import (
	"time"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// GuestInfo describes the guest. Its texts are the guest's word, and not fit for a terminal as they are.
type GuestInfo struct {
	Software      string // agent and version
	KernelRelease string // as uname -r
	Architecture  string // as GOARCH
	MemoryBytes   uint64
	CPUs          int
	PID1          bool // the agent is under its own PID 1, not a service of another init
	AgentPid      int
	Timeline      Timeline
}

// Timeline holds moments of the guest's boot, as time since the kernel started (CLOCK_BOOTTIME); 0 is unknown.
type Timeline struct {
	Init   time.Duration // PID 1's first instruction of its own
	Main   time.Duration // the agent's main
	Listen time.Duration // the control port listens
	Hello  time.Duration // the first hello was sent
	Now    time.Duration // this answer was made
}

// State is where a process is in its life.
type State int

// A process is created, runs, and has exited; meanwhile it may be paused with its container, any number of times.
const (
	StateUnknown State = iota
	StateCreated
	StateRunning
	StateExited
	StatePaused
)

func (s State) String() string {
	switch s {
	case StateCreated:
		return "created"
	case StateRunning:
		return "running"
	case StateExited:
		return "exited"
	case StatePaused:
		return "paused"
	}
	return "unknown"
}

// ProcessInfo describes a process in the guest, whoever created it.
type ProcessInfo struct {
	ID          string
	Container   string // of an exec: its container; empty otherwise
	IsContainer bool   // it is a container's first process
	State       State
	Pid         int // in the guest's first pid namespace; -1 before start
	Exit        ExitStatus
	Streams     []StreamInfo
	Terminal    bool
}

// StreamInfo describes a connected stream of a process.
type StreamInfo struct {
	Stream   Stream
	Attached bool // a client is attached
	Own      bool // it is this client
	Offset   uint64
	Ended    bool
	Direct   bool
}

func guestInfo(g *pb.GuestInfo) *GuestInfo {
	t := g.GetTimeline()
	return &GuestInfo{
		Software:      g.Software,
		KernelRelease: g.KernelRelease,
		Architecture:  g.Architecture,
		MemoryBytes:   g.MemoryBytes,
		CPUs:          int(g.Cpus),
		PID1:          g.Pid1,
		AgentPid:      int(g.AgentPid),
		Timeline: Timeline{
			Init:   duration(t.GetInit()),
			Main:   duration(t.GetMain()),
			Listen: duration(t.GetListen()),
			Hello:  duration(t.GetHello()),
			Now:    duration(t.GetNow()),
		},
	}
}

// duration converts nanoseconds; what no Duration can hold is unknown.
func duration(ns uint64) time.Duration {
	if ns > 1<<63-1 {
		return 0
	}
	return time.Duration(ns)
}

func (c *Client) processInfo(p *pb.ProcessInfo) ProcessInfo {
	info := ProcessInfo{
		ID:          p.GetId(),
		Container:   p.GetContainer(),
		IsContainer: p.GetIsContainer(),
		State:       State(p.GetState()),
		Pid:         -1,
		Terminal:    p.GetTerminal(),
	}
	if info.State >= StateRunning && p.GetPid() != 0 {
		info.Pid = int(p.GetPid())
	}
	if info.State == StateExited {
		info.Exit = exitStatus(p.GetExited())
	}
	for _, s := range p.GetStreams() {
		info.Streams = append(info.Streams, StreamInfo{
			Stream:   Stream(s.GetStream()),
			Attached: s.GetAttached(),
			Own:      s.GetAttached() && string(s.GetOwner()) == string(c.instance[:]),
			Offset:   s.GetOffset(),
			Ended:    s.GetEnded(),
			Direct:   s.GetDirect(),
		})
	}
	return info
}
