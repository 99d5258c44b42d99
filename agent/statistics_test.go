//go:build linux

package agent

import (
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func statisticsReq(ids ...string) *pb.Request {
	return &pb.Request{Op: &pb.Request_Statistics{Statistics: &pb.Statistics{Ids: ids}}}
}

// large has as many entries as there may be.
func large() (*pb.ContainerStatistics, error) {
	s := new(pb.ContainerStatistics)
	for range protocol.MaxStatisticsEntries {
		s.Io = append(s.Io, &pb.IOStatistics{ReadBytes: 1 << 60, WrittenBytes: 1 << 60, Reads: 1 << 60, Writes: 1 << 60})
		s.Networks = append(s.Networks, &pb.NetworkStatistics{Name: "interface-name0", ReceivedBytes: 1 << 60, ReceivedPackets: 1 << 60, SentBytes: 1 << 60, SentPackets: 1 << 60})
	}
	return s, nil
}

// started makes containers that run.
func started(h *host, ids ...string) {
	for _, id := range ids {
		h.must(createReq(fakeContainer(id, nil)))
		h.must(startReq(id))
	}
}

func TestStatisticsParts(t *testing.T) {
	h, tasks := newFake(t)
	tasks.statistics = large
	started(h, "a", "b", "c", "d", "e", "f", "g", "h")
	h.must(createReq(fakeExec("job", "a")))
	for _, ids := range [][]string{nil, {"h", "a", "g", "b", "f", "c", "e", "d", "h"}} {
		want := ids
		if ids == nil {
			want = []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		}
		var got []string
		parts := 0
		call := h.begin(statisticsReq(ids...))
		for more := true; more; parts++ {
			var resp *pb.Response
			var err error
			if resp, more, err = call.next(); err != nil {
				t.Fatal(err)
			}
			if n := resp.SizeVT(); n > protocol.MinMessage {
				t.Errorf("a part has %d bytes; want what every host takes, %d", n, protocol.MinMessage)
			}
			for _, s := range resp.GetStatistics().Containers {
				got = append(got, s.Id)
			}
		}
		if len(got) != len(want) || parts < 2 {
			t.Fatalf("Statistics(%v) = %v in %d parts; want several", ids, got, parts)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("Statistics(%v) = %v; want %v", ids, got, want)
				break
			}
		}
	}
	h.fails(statisticsReq("a", "nobody"), errdefs.ErrNotFound)
	h.fails(statisticsReq("job"), errdefs.ErrInvalidArgument)
	h.fails(statisticsReq(make([]string, protocol.MaxProcesses+1)...), errdefs.ErrInvalidArgument)
}

// TestStatisticsOfTheDeleted has a container go away between its choice and its reading: it is left out, unless it was asked for by name.
func TestStatisticsOfTheDeleted(t *testing.T) {
	h, tasks := newFake(t)
	var reads atomic.Int32
	tasks.statistics = func() (*pb.ContainerStatistics, error) {
		if reads.Add(1)%2 == 1 {
			return nil, &fs.PathError{Op: "open", Path: "/sys/fs/cgroup/a", Err: syscall.ENOENT}
		}
		return new(pb.ContainerStatistics), nil
	}
	started(h, "a", "b")
	if got := h.must(statisticsReq()).GetStatistics().Containers; len(got) != 1 || got[0].Id != "b" {
		t.Errorf("Statistics() = %v; want those of the one that is left", got)
	}
	h.fails(statisticsReq("a", "b"), errdefs.ErrNotFound)
}

// TestStatisticsHoldUpNothing has statistics that never come, and some that the host does not read: meanwhile processes are killed, waited for and deleted.
func TestStatisticsHoldUpNothing(t *testing.T) {
	h, tasks := newFake(t)
	ids := make([]string, 0, 100)
	for i := range cap(ids) {
		ids = append(ids, string([]byte{'a' + byte(i/26), 'a' + byte(i%26)}))
	}
	started(h, ids...)
	release, begun := make(chan struct{}), make(chan struct{}, 1)
	live := func() {
		t.Helper()
		for _, id := range ids[:2] {
			h.must(killReq(id, 9, true))
			h.must(waitReq(id))
			h.must(deleteReq(id, false))
		}
		started(h, ids[:2]...)
	}
	t.Run("not read in the guest", func(t *testing.T) {
		tasks.statistics = func() (*pb.ContainerStatistics, error) {
			select {
			case begun <- struct{}{}:
			default:
			}
			<-release
			return new(pb.ContainerStatistics), nil
		}
		call := h.begin(statisticsReq())
		<-begun
		live()
		close(release)
		if _, err := call.result(); err != nil {
			t.Errorf("the statistics in the end = %v; want no error", err)
		}
	})
	t.Run("not read by the host", func(t *testing.T) {
		tasks.statistics = large // a hundred of them are more than fits in the stream's window
		call := h.begin(statisticsReq())
		call.progress()
		live()
		call.cancel()
	})
}

func TestCheckpointIsRefused(t *testing.T) {
	h, _ := newFake(t)
	started(h, "web")
	h.fails(&pb.Request{Op: &pb.Request_Checkpoint{Checkpoint: &pb.Checkpoint{Id: "web"}}}, errdefs.ErrNotImplemented)
}
