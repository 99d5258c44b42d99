package hostclient

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// statisticsGuest answers Statistics with parts.
func statisticsGuest(t *testing.T, parts ...*pb.StatisticsPart) *Client {
	g := newFakeGuest(t)
	g.handler = func(c *fakeCall) {
		for i, part := range parts {
			r := &pb.Response{What: &pb.Response_Statistics{Statistics: part}}
			if i == len(parts)-1 {
				c.result(r)
			} else {
				c.progress(r)
			}
		}
	}
	return connect(t, g, nil)
}

func TestStatistics(t *testing.T) {
	c := statisticsGuest(t,
		&pb.StatisticsPart{Containers: []*pb.ContainerStatistics{{Id: "a"}}},
		&pb.StatisticsPart{Containers: []*pb.ContainerStatistics{{
			Id: "b", ReadAt: 1_700_000_000_000_000_000,
			Cpu:         &pb.CPUStatistics{Usage: 5_000, Throttled: math.MaxUint64},
			Memory:      &pb.MemoryStatistics{Current: 10, InactiveFile: 4, Limit: math.MaxUint64, OomKills: 1},
			CpuPressure: &pb.Pressure{Some: &pb.Stall{Total: 7, Avg10: 1234}},
			Networks:    []*pb.NetworkStatistics{{Name: "eth0", ReceivedBytes: 1, SentBytes: 2}},
		}}},
	)
	all, err := c.Statistics(t.Context(), "a", "b")
	if err != nil || len(all) != 2 || all[0].Container != "a" {
		t.Fatalf("Statistics() = %+v, %v; want those of a and b", all, err)
	}
	b := all[1]
	if b.CPU.Usage != 5*time.Microsecond || b.CPU.Throttled != 0 || b.Memory.WorkingSet() != 6 || b.Memory.Limit != Unlimited || b.Memory.OOMKills != 1 {
		t.Errorf("Statistics() = %+v; want what was sent, and nothing in the place of a time that no Duration holds", b)
	}
	if b.CPUPressure.Some.Avg10 != 12.34 || b.CPUPressure.Some.Total != 7 || len(b.Networks) != 1 || b.Networks[0].SentBytes != 2 || b.ReadAt.IsZero() {
		t.Errorf("Statistics() = %+v; want what was sent", b)
	}
}

// TestHostileStatistics has a guest tell what was not asked for, or too much.
func TestHostileStatistics(t *testing.T) {
	of := func(ids ...string) *pb.StatisticsPart {
		part := new(pb.StatisticsPart)
		for _, id := range ids {
			part.Containers = append(part.Containers, &pb.ContainerStatistics{Id: id})
		}
		return part
	}
	many := of("a")
	for range protocol.MaxStatisticsEntries + 1 {
		many.Containers[0].Networks = append(many.Containers[0].Networks, &pb.NetworkStatistics{})
	}
	for name, parts := range map[string][]*pb.StatisticsPart{
		"another container": {of("b")},
		"none":              {of()},
		"too many":          {of("a", "a")},
		"too many in parts": {of("a"), of("a")},
		"many interfaces":   {many},
	} {
		if s, err := statisticsGuest(t, parts...).Container("a").Statistics(t.Context()); !errors.Is(err, protocol.ErrProtocol) {
			t.Errorf("%s: Statistics() = %+v, %v; want a protocol error", name, s, err)
		}
	}
}
