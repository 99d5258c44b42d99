package vmtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
)

// testExactlyOnce breaks the control connection at random bytes of a process's life, in both directions: every operation is done once, and answered.
func testExactlyOnce(t *testing.T, g *guest) {
	sent, received := measureLife(t, g)
	t.Logf("a life is %d bytes to the guest and %d from it", sent, received)
	actions := []vsockdev.FaultAction{vsockdev.FaultReset, vsockdev.FaultClose, vsockdev.FaultHalfClose}
	for direction, total := range map[vsockdev.Direction]uint64{vsockdev.HostToGuest: sent, vsockdev.GuestToHost: received} {
		const cuts = 24
		for i := range uint64(cuts) {
			at := total*i/cuts + rand.Uint64N(total/cuts)
			fault := vsockdev.Fault{Direction: direction, At: at, Action: actions[i%3]}
			t.Run(fmt.Sprintf("direction %d action %d at %d", direction, fault.Action, at), func(t *testing.T) {
				var broken atomic.Bool
				g.inject(t, func(info vsockdev.ConnInfo) []vsockdev.Fault {
					if info.Dialed && broken.CompareAndSwap(false, true) {
						return []vsockdev.Fault{fault}
					}
					return nil
				})
				c, err := hostclient.Connect(deadline(t), g.Machine, nil)
				if err != nil {
					t.Fatalf("Connect(…) = %v; want no error", err)
				}
				defer c.Close()
				life(t, g, c, i%2 == 0, nil)
			})
		}
	}
	t.Run("everything reset", func(t *testing.T) {
		c := g.otherClient(t)
		for range 6 {
			life(t, g, c, true, g.Machine.Device().ResetConnections)
			life(t, g, c, false, g.Machine.Device().ResetConnections)
		}
	})
}

// life takes a process from its creation to its deletion and checks that it started once, got each signal once, and is gone. disturb, if not nil, runs beside
// every operation.
func life(t *testing.T, g *guest, c *hostclient.Client, launch bool, disturb func()) {
	t.Helper()
	ctx := deadline(t)
	hook, deleted := counter()
	out := new(output)
	cfg := g.script(further, "echo start; trap 'echo usr1' USR1; trap 'echo term; exit 11' TERM; echo up; while :; do sleep 0.02; done")
	cfg.Stdout, cfg.OnDelete, cfg.ConnectTimeout = out, hook, 20*time.Second
	p, err := c.NewProcess(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.ForceDelete(context.WithoutCancel(ctx))
	beside := func(what string, f func(context.Context) error) {
		t.Helper()
		disturbed := make(chan struct{})
		go func() {
			defer close(disturbed)
			if disturb != nil {
				disturb()
			}
		}()
		if err := f(ctx); err != nil {
			t.Fatalf("%s = %v; want no error", what, err)
		}
		<-disturbed
	}
	if launch {
		beside("Launch()", p.Launch)
	} else {
		beside("Create()", p.Create)
		beside("Start()", p.Start)
	}
	out.await(t, "up\n")
	beside("Kill(SIGUSR1)", func(ctx context.Context) error { return p.Kill(ctx, hostclient.SIGUSR1) })
	out.await(t, "usr1\n")
	beside("Kill(SIGTERM)", func(ctx context.Context) error { return p.Kill(ctx, hostclient.SIGTERM) })
	beside("Wait()", func(ctx context.Context) error {
		status, err := p.Wait(ctx)
		if err == nil && status.Code != 11 {
			err = fmt.Errorf("status %v; want code 11", status)
		}
		return err
	})
	if want := "start\nup\nusr1\nterm\n"; out.String() != want {
		t.Errorf("output %q; want %q: everything once", out.String(), want)
	}
	beside("Delete()", p.Delete)
	if _, ok := g.info(t, p.ID()); ok || deleted() != 1 {
		t.Errorf("after Delete(): listed %v, hook called %d times; want it gone, and once", ok, deleted())
	}
}

// measureLife counts the bytes of a control connection that carries one life.
func measureLife(t *testing.T, g *guest) (sent, received uint64) {
	t.Helper()
	var n traffic
	c, err := hostclient.Connect(deadline(t), hostclient.TransportFuncs{
		DialFunc: func(ctx context.Context, port uint32) (net.Conn, error) {
			conn, err := g.Machine.Dial(ctx, port)
			return meteredConn{conn, &n}, err
		},
		ListenFunc: g.Machine.Listen,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	life(t, g, c, false, nil)
	return n.sent.Load(), n.received.Load()
}

type traffic struct{ sent, received atomic.Uint64 }

// meteredConn counts what goes through a connection.
type meteredConn struct {
	net.Conn
	traffic *traffic
}

func (c meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.traffic.sent.Add(uint64(n))
	return n, err
}

func (c meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.traffic.received.Add(uint64(n))
	return n, err
}
