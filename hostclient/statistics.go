package hostclient

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Unlimited is a limit that is none.
const Unlimited uint64 = math.MaxUint64

// ContainerStatistics is what the guest's kernel counts for a container and everything in it: its cgroup, and the network interfaces of its first process. Counters begin
// with the container; sizes are in bytes. What the kernel does not measure is 0. docs.kernel.org, "Control Group v2", says more of each.
type ContainerStatistics struct {
	Container string
	ReadAt    time.Time // by the guest's clock
	CPU       CPUStatistics
	Memory    MemoryStatistics
	Pids      uint64 // processes and threads
	PidsLimit uint64
	IO        []IOStatistics // of each block device, at most 64

	// What waiting for a resource costs.
	CPUPressure, MemoryPressure, IOPressure Pressure

	Hugetlb  []HugetlbStatistics
	Networks []NetworkStatistics // of each interface, at most 64; none after the first process's exit
}

// CPUStatistics is processor time, of all processors together.
type CPUStatistics struct {
	Usage, User, System time.Duration

	Periods          uint64        // in which there was a quota
	ThrottledPeriods uint64        // in which it was used up
	Throttled        time.Duration // how long processes waited for the next period
}

// MemoryStatistics is the memory that a container holds, page cache included. The fields from Anon on are parts of Current, and overlap.
type MemoryStatistics struct {
	Current, Peak, Limit uint64
	Swap, SwapLimit      uint64 // beside Current

	LowEvents  uint64 // reclaims although usage was below memory.low
	HighEvents uint64 // reclaims because usage was above memory.high
	MaxEvents  uint64 // times that the limit was about to be passed
	OOMEvents  uint64 // times that nothing could be reclaimed
	OOMKills   uint64 // processes killed for it

	Anon, File, Kernel, Shmem, Sock, Slab, FileMapped, FileDirty, FileWriteback uint64
	ActiveAnon, InactiveAnon, ActiveFile, InactiveFile, Unevictable             uint64
	PageFaults, MajorPageFaults                                                 uint64 // counts
}

// WorkingSet is what the container holds and does not easily give back: all but the inactive part of the page cache.
func (m MemoryStatistics) WorkingSet() uint64 { return m.Current - min(m.Current, m.InactiveFile) }

// IOStatistics counts the operations on a block device, and their bytes.
type IOStatistics struct {
	Major, Minor                            uint32
	ReadBytes, WrittenBytes, DiscardedBytes uint64
	Reads, Writes, Discards                 uint64
}

// Pressure is the kernel's pressure stall information.
type Pressure struct {
	Some Stall // at least one task waited
	Full Stall // all that were not idle did
}

// Stall is a time of waiting, and its share of the last 10, 60 and 300 seconds, in percent.
type Stall struct {
	Total                time.Duration
	Avg10, Avg60, Avg300 float64
}

// HugetlbStatistics is about huge pages of one size.
type HugetlbStatistics struct {
	PageSize       string // "2MB"
	Current, Limit uint64
	MaxEvents      uint64 // allocations that failed by the limit
}

// NetworkStatistics counts what an interface of the container's network namespace has seen: the guest's own interfaces for a container without such a namespace.
type NetworkStatistics struct {
	Name                                                        string
	ReceivedBytes, ReceivedPackets, ReceiveErrors, ReceiveDrops uint64
	SentBytes, SentPackets, SendErrors, SendDrops               uint64
}

// Statistics reads what containers use, in their order; without ids of all that exist, by their names. An id without a container is errdefs.ErrNotFound. It holds up nothing
// in the guest, and nothing there holds it up.
func (c *Client) Statistics(ctx context.Context, ids ...string) ([]ContainerStatistics, error) {
	var all []ContainerStatistics
	part := func(r *pb.Response) error {
		p := r.GetStatistics()
		if p == nil {
			return errUnexpected
		}
		for _, s := range p.Containers {
			if err := checkStatistics(s, ids, len(all)); err != nil {
				return fmt.Errorf("%w: statistics: %v", protocol.ErrProtocol, err)
			}
			all = append(all, containerStatistics(s))
		}
		return nil
	}
	err := c.call(ctx, operation{
		what:     "read statistics",
		request:  &pb.Request{Op: &pb.Request_Statistics{Statistics: &pb.Statistics{Ids: ids}}},
		repeat:   true,
		sending:  func() { all = nil },
		progress: part,
		result: func(r *pb.Response) error {
			if err := part(r); err != nil {
				return err
			}
			if len(ids) > 0 && len(all) != len(ids) {
				return fmt.Errorf("%w: statistics of %d containers, asked for %d", protocol.ErrProtocol, len(all), len(ids))
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// checkStatistics refuses what was not asked for, and more than the protocol allows. i is the container's place in the answer.
func checkStatistics(s *pb.ContainerStatistics, ids []string, i int) error {
	switch {
	case len(ids) > 0 && (i >= len(ids) || s.Id != ids[i]):
		return fmt.Errorf("unasked for, of %.64q", s.Id)
	case i >= protocol.MaxProcesses:
		return fmt.Errorf("more than %d containers", protocol.MaxProcesses)
	case max(len(s.Io), len(s.Hugetlb), len(s.Networks)) > protocol.MaxStatisticsEntries:
		return fmt.Errorf("more than %d entries", protocol.MaxStatisticsEntries)
	}
	return nil
}

func containerStatistics(s *pb.ContainerStatistics) ContainerStatistics {
	out := ContainerStatistics{
		Container: s.Id, ReadAt: guestTime(s.ReadAt),
		Memory: memoryStatistics(s.GetMemory()),
		Pids:   s.Pids, PidsLimit: s.PidsLimit,
		CPUPressure: pressure(s.CpuPressure), MemoryPressure: pressure(s.MemoryPressure), IOPressure: pressure(s.IoPressure),
	}
	if c := s.Cpu; c != nil {
		out.CPU = CPUStatistics{
			Usage: duration(c.Usage), User: duration(c.User), System: duration(c.System),
			Periods: c.Periods, ThrottledPeriods: c.ThrottledPeriods, Throttled: duration(c.Throttled),
		}
	}
	for _, d := range s.Io {
		out.IO = append(out.IO, IOStatistics{
			Major: d.Major, Minor: d.Minor, ReadBytes: d.ReadBytes, WrittenBytes: d.WrittenBytes, DiscardedBytes: d.DiscardedBytes,
			Reads: d.Reads, Writes: d.Writes, Discards: d.Discards,
		})
	}
	for _, h := range s.Hugetlb {
		out.Hugetlb = append(out.Hugetlb, HugetlbStatistics{PageSize: h.PageSize, Current: h.Current, Limit: h.Limit, MaxEvents: h.MaxEvents})
	}
	for _, n := range s.Networks {
		out.Networks = append(out.Networks, NetworkStatistics{
			Name:          n.Name,
			ReceivedBytes: n.ReceivedBytes, ReceivedPackets: n.ReceivedPackets, ReceiveErrors: n.ReceiveErrors, ReceiveDrops: n.ReceiveDrops,
			SentBytes: n.SentBytes, SentPackets: n.SentPackets, SendErrors: n.SendErrors, SendDrops: n.SendDrops,
		})
	}
	return out
}

func memoryStatistics(m *pb.MemoryStatistics) MemoryStatistics {
	if m == nil {
		return MemoryStatistics{}
	}
	return MemoryStatistics{
		Current: m.Current, Peak: m.Peak, Limit: m.Limit, Swap: m.Swap, SwapLimit: m.SwapLimit,
		LowEvents: m.LowEvents, HighEvents: m.HighEvents, MaxEvents: m.MaxEvents, OOMEvents: m.OomEvents, OOMKills: m.OomKills,
		Anon: m.Anon, File: m.File, Kernel: m.Kernel, Shmem: m.Shmem, Sock: m.Sock, Slab: m.Slab,
		FileMapped: m.FileMapped, FileDirty: m.FileDirty, FileWriteback: m.FileWriteback,
		ActiveAnon: m.ActiveAnon, InactiveAnon: m.InactiveAnon, ActiveFile: m.ActiveFile, InactiveFile: m.InactiveFile, Unevictable: m.Unevictable,
		PageFaults: m.PageFaults, MajorPageFaults: m.MajorPageFaults,
	}
}

func pressure(p *pb.Pressure) Pressure {
	return Pressure{Some: stall(p.GetSome()), Full: stall(p.GetFull())}
}

func stall(s *pb.Stall) Stall {
	if s == nil {
		return Stall{}
	}
	return Stall{Total: duration(s.Total), Avg10: float64(s.Avg10) / 100, Avg60: float64(s.Avg60) / 100, Avg300: float64(s.Avg300) / 100}
}
