package hostclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestConnectWaitsForTheGuest(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.refuse = 5
	c := connect(t, g, nil)
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v; want no error", err)
	}
	if dials, _ := g.count(); dials != 6 {
		t.Errorf("the client dialled %d times; want 6", dials)
	}
}

func TestConnectGivesUp(t *testing.T) {
	raw := func(b string) func(net.Conn) error {
		return func(conn net.Conn) error {
			go io.Copy(io.Discard, conn)
			_, err := conn.Write([]byte(b))
			if err == nil {
				_, err = conn.Read(make([]byte, 1)) // until the host hangs up
			}
			return err
		}
	}
	oversized := "bellhop\x00\x00\x01\x00\x00\x00\x00\x10\x01"
	tests := []struct {
		name      string
		greet     func(net.Conn) error
		limits    *pb.Limits
		dialError error
		check     func(error) bool
	}{
		{name: "another protocol", greet: raw("SSH-2.0-OpenSSH_9.2p1 Debian"), check: is(protocol.ErrNotBellhop)},
		{name: "another major version", greet: raw("bellhop\x00\x00\x02\x00\x07\x00\x00\x00\x00"), check: func(err error) bool {
			v, ok := errors.AsType[*protocol.VersionError](err)
			return ok && v.Major == 2 && v.Minor == 7
		}},
		{name: "an endless hello", greet: raw(oversized + strings.Repeat("x", 5000)), check: says("4097 bytes")},
		{name: "a hello that is no message", greet: raw("bellhop\x00\x00\x01\x00\x00\x00\x00\x00\x02\xff\xff"), check: says("hello")},
		{name: "no instance", greet: raw("bellhop\x00\x00\x01\x00\x00\x00\x00\x00\x00"), check: is(protocol.ErrProtocol)},
		{name: "too few streams", limits: &pb.Limits{MaxStreams: 3}, check: says("at least 8")},
		{name: "a transport that is closed", dialError: net.ErrClosed, check: is(net.ErrClosed)},
		{name: "a transport that can't", dialError: errors.ErrUnsupported, check: is(errors.ErrUnsupported)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkLeaks(t)
			g := newFakeGuest(t)
			g.greet, g.limits = tt.greet, tt.limits
			if tt.dialError != nil {
				g.refuse, g.dialError = 100, tt.dialError
			}
			c, err := Connect(t.Context(), g, nil)
			if err == nil || !tt.check(err) {
				t.Errorf("Connect(…) = %v, %v; want another error", c, err)
			}
			if dials, _ := g.count(); dials != 1 {
				t.Errorf("the client dialled %d times; want 1", dials)
			}
		})
	}
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func says(text string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
}

func TestConnectEndsWithItsContext(t *testing.T) {
	silent := func(conn net.Conn) error {
		_, err := io.Copy(io.Discard, conn)
		return err
	}
	trickle := func(conn net.Conn) error {
		go io.Copy(io.Discard, conn)
		for _, b := range append([]byte("bellhop\x00\x00\x01\x00\x00\x00\x00\x10\x00"), bytes.Repeat([]byte{'x'}, 4096)...) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return err
			}
			time.Sleep(time.Second) // of the bubble's clock
		}
		return nil
	}
	tests := []struct {
		name   string
		refuse int
		greet  func(net.Conn) error
	}{
		{name: "nobody listens", refuse: 1 << 30},
		{name: "nobody says hello", greet: silent},
		{name: "a hello that never ends", greet: trickle},
		{name: "the guest hangs up", greet: func(net.Conn) error { return io.EOF }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newFakeGuest(t)
				g.refuse, g.greet = tt.refuse, tt.greet
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				_, err := Connect(ctx, g, nil)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
					t.Errorf("Connect(…) = %v after %v; want the context's error after 1m", err, time.Since(start))
				}
				t.Log(err)
			})
		})
	}
}

func TestLimitsOfTheGuest(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	g.limits = &pb.Limits{MaxMessage: protocol.MinMessage, MaxStreams: protocol.MinStreams}
	c := connect(t, g, nil)
	if err := c.Unmount(t.Context(), strings.Repeat("x", protocol.MinMessage)); err == nil || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("a request above the guest's limit: %v; want an error that names the limit", err)
	}
	for range 10 {
		if err := c.Ping(t.Context()); err != nil {
			t.Fatalf("Ping() = %v; want no error", err)
		}
	}
	if _, streams := g.count(); streams != 1 {
		t.Errorf("10 calls one after the other used %d streams; want 1", streams)
	}
}

func TestClose(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	blocked := make(chan struct{})
	g.handler = func(c *fakeCall) {
		close(blocked)
		<-c.ctx.Done()
	}
	c := connect(t, g, &Config{PingInterval: time.Hour})
	result := make(chan error, 1)
	go func() { result <- c.Mount(t.Context(), Mount{Target: "/x"}) }()
	<-blocked
	c.Close()
	c.Close()
	if err := <-result; err == nil {
		t.Error("a call that Close interrupted has no error; want one")
	}
	if err := c.Ping(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Ping() after Close = %v; want ErrClosed", err)
	}
	if _, err := c.NewProcess(ProcessConfig{}); err == nil {
		t.Error("NewProcess with nothing to run has no error; want one")
	}
	select {
	case <-c.Done():
	default:
		t.Error("Done is open after Close; want it closed")
	}
	if err := c.Err(); !errors.Is(err, ErrClosed) {
		t.Errorf("Err() = %v; want ErrClosed", err)
	}
}
