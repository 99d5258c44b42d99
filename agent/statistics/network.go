//go:build linux

package statistics

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// networks reads the interfaces of a process's network namespace, in lines "  eth0: " with eight numbers each for what is received and sent, proc_pid_net(5), behind two of titles.
func (r *Reader) networks(pid int) []*pb.NetworkStatistics {
	var list []*pb.NetworkStatistics
	for line := range bytes.Lines(r.read(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/net/dev")) {
		name, counters, ok := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(counters)
		if !ok || len(fields) < 12 || len(list) == protocol.MaxStatisticsEntries {
			continue
		}
		list = append(list, &pb.NetworkStatistics{
			Name:          string(bytes.TrimSpace(name)),
			ReceivedBytes: number(fields[0]), ReceivedPackets: number(fields[1]), ReceiveErrors: number(fields[2]), ReceiveDrops: number(fields[3]),
			SentBytes: number(fields[8]), SentPackets: number(fields[9]), SendErrors: number(fields[10]), SendDrops: number(fields[11]),
		})
	}
	return list
}
