package hostclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// How long to wait between attempts to connect: the first is short, since a booting guest is ready any moment; they double.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 50 * time.Millisecond
)

// connect makes a session, trying again until ctx ends as long as trying again can help.
func (c *Client) connect(ctx context.Context) (*session, error) {
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		s, err := c.attempt(ctx)
		if err == nil || !worthRetrying(err) {
			return s, err
		}
		if pause(ctx, delay) != nil {
			return nil, fmt.Errorf("%w (the last attempt: %v)", context.Cause(ctx), err)
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errDial marks a connection that did not come about.
type errDial struct{ error }

func (e errDial) Unwrap() error { return e.error }

// worthRetrying tells a guest that is not ready, or went away, from one that is there and speaks something else.
func worthRetrying(err error) bool {
	if errors.Is(err, errors.ErrUnsupported) || errors.As(err, new(errDial)) && errors.Is(err, net.ErrClosed) {
		return false
	}
	if errors.As(err, new(errDial)) || errors.As(err, new(*net.OpError)) || errors.As(err, new(*lostError)) {
		return true
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// attempt dials once, says hello and begins to multiplex. A guest that does not do its part within the bound of the hello counts as one that is not
// ready: the error wraps os.ErrDeadlineExceeded.
func (c *Client) attempt(ctx context.Context) (*session, error) {
	conn, err := c.transport.Dial(ctx, c.cfg.ControlPort)
	if err != nil {
		return nil, errDial{err}
	}
	ctx, cancel := context.WithTimeout(ctx, protocol.HelloTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s, err := c.greet(conn)
	if !stop() && err == nil { // too late: conn is closed, or about to be
		s.close(nil)
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the guest did not say hello: %w", os.ErrDeadlineExceeded)
		}
		return nil, err
	}
	return s, nil
}

func (c *Client) greet(conn net.Conn) (*session, error) {
	hello, err := c.exchangeHello(conn)
	if err != nil {
		return nil, err
	}
	return newSession(conn, hello, c.cfg.Logger)
}

// exchangeHello writes ours and reads theirs at once: neither side waits for the other (SPEC 2).
func (c *Client) exchangeHello(conn net.Conn) (*pb.Hello, error) {
	written := make(chan error, 1)
	go func() { written <- protocol.WriteHello(conn, c.hello()) }()
	hello, err := protocol.ReadHello(conn)
	if err != nil {
		conn.Close() // ends the write too
	}
	if werr := <-written; err == nil {
		err = werr
	}
	if err == nil && len(hello.Instance) != len(instanceID{}) {
		err = fmt.Errorf("%w: hello with an instance of %d bytes", protocol.ErrProtocol, len(hello.Instance))
	}
	return hello, err
}

func (c *Client) hello() *pb.Hello {
	return &pb.Hello{
		Software: c.cfg.Software,
		Instance: c.instance[:],
		Limits:   &pb.Limits{MaxMessage: protocol.MaxMessage, MaxStreams: protocol.MaxStreams, MaxChunk: protocol.MaxChunk},
	}
}
