package framefilter

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/protocol"
)

// victim is a yamux session behind a filter; peer is the other end of its connection, for raw frames.
type victim struct {
	conn    *Conn
	session *yamux.Session
	peer    net.Conn
}

func newVictim(t testing.TB, role Role, limits Limits, config *yamux.Config) *victim {
	t.Helper()
	own, peer := pipe(t)
	v := &victim{conn: New(own, role, limits), peer: peer}
	make := yamux.Client
	if role == Guest {
		make = yamux.Server
	}
	var err error
	if v.session, err = make(v.conn, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.session.Close() })
	return v
}

// growth runs f and gives by how much the goroutines grew at most meanwhile, and the live heap (bytes) from before to after it.
func growth(f func()) (goroutines int, heap int64) {
	heapBefore, before := liveHeap(), runtime.NumGoroutine()
	peak := before
	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				peak = max(peak, runtime.NumGoroutine())
			}
		}
	})
	f()
	close(stop)
	sampler.Wait()
	return peak - before, liveHeap() - heapBefore
}

func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// flood writes a frame n times, and says whether the victim took them all before it closed the connection.
func (v *victim) flood(h header, n int) bool {
	frame := h.encode()
	v.peer.SetWriteDeadline(time.Now().Add(testBound))
	for range n {
		if _, err := v.peer.Write(frame); err != nil {
			return false
		}
	}
	return true
}

// ended waits for the session's end and gives its reason.
func (v *victim) ended(t *testing.T) error {
	t.Helper()
	select {
	case <-v.session.CloseChan():
	case <-time.After(testBound):
		t.Fatal("the session goes on; want its end")
	}
	return v.conn.Err()
}

// TestHostileFloods sends what must end the session and cost nothing.
func TestHostileFloods(t *testing.T) {
	opened := window(1, flagSYN, 0)
	for _, test := range []struct {
		name  string
		role  Role
		flood func(*victim)
	}{
		{"SYNs from the guest", Host, func(v *victim) {
			for id := uint32(2); id < 100_000 && v.flood(window(id, flagSYN, 0), 1); id += 2 {
			}
		}},
		{"SYNs that nobody accepts", Guest, func(v *victim) {
			for id := uint32(1); id < 100_000 && v.flood(window(id, flagSYN, 0), 1); id += 2 {
			}
		}},
		{"pings, at the host", Host, func(v *victim) { v.flood(ping.frame, 200_000) }},
		{"pings, at the guest", Guest, func(v *victim) { v.flood(ping.frame, 200_000) }},
		{"answers to no ping", Host, func(v *victim) { v.flood(header{typ: typePing, flags: flagACK}, 200_000) }},
		{"window overflow", Guest, func(v *victim) {
			v.flood(opened, 1)
			v.flood(window(1, 0, 1<<30), 10)
		}},
		{"data beyond the window", Guest, func(v *victim) {
			v.flood(opened, 1)
			v.flood(data(1, 0, 64<<10), 1000)
		}},
		{"frames for a closed stream", Guest, func(v *victim) {
			v.flood(window(1, flagSYN|flagRST, 0), 1)
			v.flood(window(1, 0, 1), 200_000)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVictim(t, test.role, Limits{}, config())
			var reason error
			goroutines, heap := growth(func() {
				test.flood(v) // and never reads: answers get stuck, and whoever sends them
				reason = v.ended(t)
			})
			t.Logf("goroutines +%d, heap %+d KiB, %v", goroutines, heap>>10, reason)
			if !errors.Is(reason, protocol.ErrProtocol) {
				t.Errorf("Err() = %v; want protocol.ErrProtocol", reason)
			}
			if goroutines > 4*pingBurst {
				t.Errorf("goroutines grew by %d; want at most %d", goroutines, 4*pingBurst)
			}
			if heap > 2<<20 {
				t.Errorf("the heap grew by %d bytes; want at most 2 MiB", heap)
			}
		})
	}
}

// TestHostileFill uses all that is allowed. yamux's buffers double, so a full stream costs two windows.
func TestHostileFill(t *testing.T) {
	const streams = 32
	v := newVictim(t, Guest, Limits{MaxStreams: streams}, config())
	before := liveHeap()
	for id := uint32(1); id < 2*streams; id += 2 {
		v.flood(window(id, flagSYN, 0), 1)
		v.flood(data(id, 0, initialWindow), 1)
	}
	v.flood(ping.frame, 1)
	// The answer to the ping says that all before it is taken.
	if _, err := io.ReadFull(v.peer, make([]byte, headerSize)); err != nil {
		t.Fatal(err)
	}
	heap := liveHeap() - before
	t.Logf("heap %+d KiB for %d full streams", heap>>10, v.session.NumStreams())
	if v.session.NumStreams() != streams {
		t.Errorf("%d streams; want %d", v.session.NumStreams(), streams)
	}
	if most := int64(streams) * (2*initialWindow + 16<<10); heap > most {
		t.Errorf("the heap grew by %d bytes; want at most %d", heap, most)
	}
}

// TestStreamNeverAcked has a guest that acknowledges one stream and not another: only the latter may suffer.
func TestStreamNeverAcked(t *testing.T) {
	v := newVictim(t, Host, Limits{}, config())
	var silent, good net.Conn
	var err error
	if silent, err = v.session.Open(); err != nil {
		t.Fatal(err)
	}
	if good, err = v.session.Open(); err != nil {
		t.Fatal(err)
	}
	v.flood(window(3, flagACK, 0), 1)
	v.flood(data(3, 0, 5), 1)
	good.SetDeadline(time.Now().Add(testBound))
	if _, err := io.ReadFull(good, make([]byte, 5)); err != nil {
		t.Errorf("the acknowledged stream: %v", err)
	}
	silent.SetDeadline(time.Now())
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, yamux.ErrTimeout) {
		t.Errorf("the silent stream: Read() = %v; want %v", err, yamux.ErrTimeout)
	}
	if v.session.IsClosed() {
		t.Errorf("the session is closed (%v)", v.conn.Err())
	}
}

// TestStalledPeer has a peer that does not read: the write fails in its time, and closing the session then frees everything.
func TestStalledPeer(t *testing.T) {
	c := config()
	c.ConnectionWriteTimeout = 100 * time.Millisecond
	v := newVictim(t, Host, Limits{}, c)
	s, err := v.session.Open()
	if err != nil {
		t.Fatal(err)
	}
	v.flood(window(1, flagACK, 1<<30), 1) // any amount may be sent
	written := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = s.Write(make([]byte, 64<<10))
		}
		written <- err
	}()
	select {
	case err = <-written:
	case <-time.After(testBound):
		t.Fatal("Write() goes on for ever")
	}
	if !errors.Is(err, yamux.ErrConnectionWriteTimeout) {
		t.Errorf("Write() = %v; want %v", err, yamux.ErrConnectionWriteTimeout)
	}
	closed := make(chan struct{})
	go func() { v.session.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(testBound):
		t.Fatal("Close() hangs: the writer is not freed")
	}
}
