package streams_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/relay"
	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// faultProxy stands between the guest's dials and the hub's socket and breaks connections at random bytes, in ways that a transport can.
type faultProxy struct {
	l      net.Listener
	target string
	mean   atomic.Int64 // bytes from one fault to the next, on average; 0: none
	faults atomic.Int64
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newFaultProxy(t testing.TB, target string) *faultProxy {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "p"))
	if err != nil {
		t.Fatal(err)
	}
	f := &faultProxy{l: l, target: target, conns: make(map[net.Conn]bool)}
	f.wg.Go(f.serve)
	t.Cleanup(func() {
		l.Close()
		f.resetAll()
		f.wg.Wait()
	})
	return f
}

func (f *faultProxy) serve() {
	for {
		guest, err := f.l.Accept()
		if err != nil {
			return
		}
		host, err := net.Dial("unix", f.target)
		if err != nil {
			guest.Close()
			continue
		}
		f.mu.Lock()
		f.conns[guest], f.conns[host] = true, true
		f.mu.Unlock()
		f.wg.Go(func() { f.carry(guest, host) })
		f.wg.Go(func() { f.carry(host, guest) })
	}
}

// resetAll breaks every connection at once, as a restored snapshot does.
func (f *faultProxy) resetAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
	clear(f.conns)
}

// carry copies until a fault is due. Small budgets hit the preamble, the accept record, the end and the end's ack.
func (f *faultProxy) carry(dst, src net.Conn) {
	left := int64(-1)
	b := make([]byte, 64<<10)
	for {
		n, err := src.Read(b)
		if m := f.mean.Load(); m > 0 && left < 0 {
			left = rand.Int64N(2 * m)
			if rand.IntN(3) == 0 {
				left = rand.Int64N(200)
			}
		}
		if left >= 0 && int64(n) > left {
			dst.Write(b[:left])
			f.fault(dst, src)
			return
		}
		if left >= 0 {
			left -= int64(n)
		}
		if n > 0 {
			if _, err := dst.Write(b[:n]); err != nil {
				f.drop(dst, src)
				return
			}
		}
		if err != nil {
			f.drop(dst, src)
			return
		}
	}
}

func (f *faultProxy) drop(a, b net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.Close()
	b.Close()
	delete(f.conns, a)
	delete(f.conns, b)
}

func (f *faultProxy) fault(dst, src net.Conn) {
	f.faults.Add(1)
	switch rand.IntN(4) {
	case 0: // the receiver sees a half-close, the sender goes on for a moment
		dst.(*net.UnixConn).CloseWrite()
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
	case 1: // a stall before the reset
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
	case 2: // one side first
		src.Close()
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
	}
	f.drop(dst, src)
}

// newFaultyPair is newPair with a proxy that breaks nothing yet.
func newFaultyPair(t testing.TB, cfg streams.Config) (*pair, *faultProxy) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hub := streams.NewHub(l, 7, nil, nil)
	t.Cleanup(func() { hub.Close() })
	f := newFaultProxy(t, path)
	dial := func(ctx context.Context, port uint32) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", f.l.Addr().String())
	}
	p := &pair{t: t, hub: hub, owner: []byte("owner"), told: make(chan streams.LostStream, 1000)}
	p.cfg = &relay.Config{Dial: dial, Budget: relay.NewBudget(64 << 20), OnLost: func(name pb.Stream, gen uint32) {
		p.told <- streams.LostStream{Stream: name, Generation: gen}
	}}
	p.connect(cfg)
	return p, f
}

// keepAttached does what the client does: attaches again to what breaks. The guest's word counts too (a Watch brings it): that the end's ack was lost, only the guest knows.
func (p *pair) keepAttached(ctx context.Context) error {
	for {
		var lost streams.LostStream
		select {
		case lost = <-p.host.Lost():
		case lost = <-p.told:
		case <-ctx.Done():
			return nil
		}
		if !p.current(lost) {
			continue // both ends noticed, and it is attached again
		}
		if err := p.reattach(ctx, lost.Stream); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (p *pair) current(lost streams.LostStream) bool {
	for _, i := range p.guest.Info() {
		if i.Stream == lost.Stream {
			return i.Generation == lost.Generation
		}
	}
	return false
}

func (p *pair) reattach(ctx context.Context, name pb.Stream) error {
	for ctx.Err() == nil {
		err := p.attach(ctx, name)
		if err == nil {
			return nil
		}
		var se *protocol.StatusError
		if !errors.As(err, &se) {
			continue
		}
		if se.PB.Generation == 0 || errors.Is(err, errdefs.ErrFailedPrecondition) || errors.Is(err, errdefs.ErrOutOfRange) {
			return err
		}
		p.host.Retry(name, se.PB.Generation)
	}
	return ctx.Err()
}

func (p *pair) attach(ctx context.Context, name pb.Stream) error {
	reqs, err := p.host.AttachRequest(false, nil, name)
	if err != nil {
		return err
	}
	res, err := p.guest.Attach(ctx, &pb.Attach{Streams: reqs, ConnectTimeoutMs: 1000}, p.owner, p.host.Dialing)
	if err != nil {
		return err
	}
	if err := p.host.Connected(ctx); err != nil {
		return err
	}
	return p.host.Attached(res)
}

// TestFaults runs bytes through cat, as the process, while connections break in both directions all the time: nothing is lost, nothing doubled.
func TestFaults(t *testing.T) {
	for _, mean := range []int64{3 << 10, 64 << 10, 1 << 20} {
		t.Run("", func(t *testing.T) {
			want := noise(int(min(mean*60, 48<<20)))
			var out sum
			p, f := newFaultyPair(t, streams.Config{Stdin: bytes.NewReader(want), Stdout: &out})
			f.mean.Store(mean)
			ctx, cancel := context.WithCancel(context.Background())
			kept := make(chan error, 1)
			go func() { kept <- p.keepAttached(ctx) }()
			done := make(chan error, 1)
			go func() {
				_, err := io.CopyBuffer(struct{ io.Writer }{p.files[1]}, struct{ io.Reader }{p.files[0]}, make([]byte, 100<<10))
				p.files[1].Close()
				p.files[0].Close()
				done <- err
			}()
			if err := waitFor(done, 60*time.Second); err != nil {
				t.Fatalf("cat: %v", err)
			}
			if _, err := p.finish(); err != nil {
				t.Error(err)
			}
			cancel()
			if err := <-kept; err != nil {
				t.Errorf("keepAttached: %v", err)
			}
			if got := out.bytes(); !bytes.Equal(got, want) {
				t.Errorf("%d bytes came back that differ from the %d given", len(got), len(want))
			}
			t.Logf("%d bytes, %d faults", len(want), f.faults.Load())
		})
	}
}

func waitFor(c <-chan error, d time.Duration) error {
	select {
	case err := <-c:
		return err
	case <-time.After(d):
		return errors.New("it takes too long")
	}
}
