//go:build linux

package statistics

import "github.com/bellhop-vm/bellhop/protocol/pb"

func (r *Reader) memory(dir int) *pb.MemoryStatistics {
	s := &pb.MemoryStatistics{
		Current: r.value(dir, "memory.current"), Peak: r.value(dir, "memory.peak"), Limit: r.limit(dir, "memory.max"),
		Swap: r.value(dir, "memory.swap.current"), SwapLimit: r.limit(dir, "memory.swap.max"),
	}
	r.keyed(dir, "memory.events", func(key []byte, v uint64) {
		switch string(key) {
		case "low":
			s.LowEvents = v
		case "high":
			s.HighEvents = v
		case "max":
			s.MaxEvents = v
		case "oom":
			s.OomEvents = v
		case "oom_kill":
			s.OomKills = v
		}
	})
	r.keyed(dir, "memory.stat", func(key []byte, v uint64) {
		if field := memoryField(s, key); field != nil {
			*field = v
		}
	})
	return s
}

// memoryField finds the place of a line of memory.stat; nil for those that are not told.
func memoryField(s *pb.MemoryStatistics, key []byte) *uint64 {
	switch string(key) {
	case "anon":
		return &s.Anon
	case "file":
		return &s.File
	case "kernel":
		return &s.Kernel
	case "shmem":
		return &s.Shmem
	case "sock":
		return &s.Sock
	case "slab":
		return &s.Slab
	case "file_mapped":
		return &s.FileMapped
	case "file_dirty":
		return &s.FileDirty
	case "file_writeback":
		return &s.FileWriteback
	case "active_anon":
		return &s.ActiveAnon
	case "inactive_anon":
		return &s.InactiveAnon
	case "active_file":
		return &s.ActiveFile
	case "inactive_file":
		return &s.InactiveFile
	case "unevictable":
		return &s.Unevictable
	case "pgfault":
		return &s.PageFaults
	case "pgmajfault":
		return &s.MajorPageFaults
	}
	return nil
}
