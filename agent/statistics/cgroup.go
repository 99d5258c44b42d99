//go:build linux

package statistics

import (
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Read reads the cgroup at a path, and the network interfaces of the process that pid names, which it asks again afterwards: a process that was reaped meanwhile, for which pid gives 0,
// may have left its number to another. fs.ErrNotExist: there is no such cgroup.
func (r *Reader) Read(path string, pid func() int) (*pb.ContainerStatistics, error) {
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(dir)
	s := &pb.ContainerStatistics{
		ReadAt: uint64(time.Now().UnixNano()),
		Cpu:    r.cpu(dir), Memory: r.memory(dir),
		Pids: r.value(dir, "pids.current"), PidsLimit: r.limit(dir, "pids.max"),
		Io:          r.io(dir),
		CpuPressure: r.pressure(dir, "cpu.pressure"), MemoryPressure: r.pressure(dir, "memory.pressure"), IoPressure: r.pressure(dir, "io.pressure"),
		Hugetlb: r.hugetlb(dir),
	}
	if p := pid(); p != 0 {
		networks := r.networks(p)
		if pid() == p {
			s.Networks = networks
		}
	}
	return s, nil
}

// micro is a microsecond in nanoseconds.
const micro = 1000

func (r *Reader) cpu(dir int) *pb.CPUStatistics {
	s := new(pb.CPUStatistics)
	r.keyed(dir, "cpu.stat", func(key []byte, v uint64) {
		switch string(key) {
		case "usage_usec":
			s.Usage = v * micro
		case "user_usec":
			s.User = v * micro
		case "system_usec":
			s.System = v * micro
		case "nr_periods":
			s.Periods = v
		case "nr_throttled":
			s.ThrottledPeriods = v
		case "throttled_usec":
			s.Throttled = v * micro
		}
	})
	return s
}

// io reads a line for each device: "8:0 rbytes=1 wbytes=2 …".
func (r *Reader) io(dir int) []*pb.IOStatistics {
	var list []*pb.IOStatistics
	for line := range bytes.Lines(r.read(dir, "io.stat")) {
		fields := bytes.Fields(line)
		if len(fields) < 2 || len(list) == protocol.MaxStatisticsEntries { // the kernel prints the number of a device without counters, too
			continue
		}
		major, minor, _ := bytes.Cut(fields[0], []byte(":"))
		s := &pb.IOStatistics{Major: uint32(number(major)), Minor: uint32(number(minor))}
		for _, f := range fields[1:] {
			key, v, _ := bytes.Cut(f, []byte("="))
			switch n := number(v); string(key) {
			case "rbytes":
				s.ReadBytes = n
			case "wbytes":
				s.WrittenBytes = n
			case "dbytes":
				s.DiscardedBytes = n
			case "rios":
				s.Reads = n
			case "wios":
				s.Writes = n
			case "dios":
				s.Discards = n
			}
		}
		list = append(list, s)
	}
	return list
}

// pressure reads lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". It is nil where the kernel does not measure.
func (r *Reader) pressure(dir int, name string) *pb.Pressure {
	var p *pb.Pressure
	for line := range bytes.Lines(r.read(dir, name)) {
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if p == nil {
			p = new(pb.Pressure)
		}
		if string(fields[0]) == "some" {
			p.Some = stall(fields[1:])
		} else {
			p.Full = stall(fields[1:])
		}
	}
	return p
}

func stall(fields [][]byte) *pb.Stall {
	s := new(pb.Stall)
	for _, f := range fields {
		key, v, _ := bytes.Cut(f, []byte("="))
		switch string(key) {
		case "avg10":
			s.Avg10 = hundredths(v)
		case "avg60":
			s.Avg60 = hundredths(v)
		case "avg300":
			s.Avg300 = hundredths(v)
		case "total":
			s.Total = number(v) * micro
		}
	}
	return s
}

// hundredths reads a number with two decimals.
func hundredths(b []byte) uint32 {
	whole, decimals, _ := bytes.Cut(b, []byte("."))
	return uint32(100*number(whole) + number(decimals))
}

func (r *Reader) hugetlb(dir int) []*pb.HugetlbStatistics {
	var list []*pb.HugetlbStatistics
	for _, size := range r.pageSizes {
		file := "hugetlb." + size
		current := r.read(dir, file+".current")
		if len(current) == 0 {
			continue
		}
		s := &pb.HugetlbStatistics{PageSize: size, Current: number(current), Limit: r.limit(dir, file+".max")}
		r.keyed(dir, file+".events", func(key []byte, v uint64) {
			if string(key) == "max" {
				s.MaxEvents = v
			}
		})
		list = append(list, s)
	}
	return list
}
