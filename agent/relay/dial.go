//go:build linux

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// How long to wait between two dials of one stream.
const (
	firstRedial = 10 * time.Millisecond
	maxRedial   = 200 * time.Millisecond
)

// dialing is one data connection to be made.
type dialing struct {
	port     uint32
	preamble protocol.Preamble
	conn     net.Conn // the result
}

// dialAll makes all connections side by side, and beside them calls meanwhile. Either all are there, or none and the first error says why.
func (c *Config) dialAll(ctx context.Context, timeout time.Duration, ds []*dialing, meanwhile func() error) error {
	if len(ds) == 0 {
		return meanwhile()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	take := func(err error) {
		if err != nil {
			once.Do(func() { first = err })
			cancel()
		}
	}
	for _, d := range ds {
		wg.Go(func() { take(c.dialUntil(ctx, d)) })
	}
	take(meanwhile())
	wg.Wait()
	if first == nil {
		return nil
	}
	for _, d := range ds {
		if d.conn != nil {
			_ = d.conn.Close()
			d.conn = nil
		}
	}
	return first
}

// dialUntil dials with the same token until the host accepts, or ctx ends.
func (c *Config) dialUntil(ctx context.Context, d *dialing) error {
	for pause := firstRedial; ; pause = min(2*pause, maxRedial) {
		err := c.dialOnce(ctx, d)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return connectError(ctx, d.preamble.Stream, err)
		case <-time.After(pause):
		}
	}
}

// dialOnce dials, says the preamble and reads the accept record.
func (c *Config) dialOnce(ctx context.Context, d *dialing) (err error) {
	conn, err := c.Dial(ctx, d.port)
	if err != nil {
		return fmt.Errorf("cannot dial port %d: %w", d.port, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(protocol.ConnectTimeout)) // a silent peer is dialled again
	if err := protocol.WritePreamble(conn, d.preamble); err != nil {
		return err
	}
	if err := protocol.ReadAccept(conn, d.preamble); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	d.conn = conn
	return nil
}

// connectError says which stream has no connection: the operation was cancelled, or the time was up.
func connectError(ctx context.Context, name pb.Stream, err error) error {
	code := pb.Code_CODE_CANCELED
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = pb.Code_CODE_DEADLINE_EXCEEDED
	}
	e := streamError(code, name, err.Error())
	e.PB.Steps = []string{"connect " + label(name)}
	return e
}

// streamError makes the error of one stream.
func streamError(code pb.Code, name pb.Stream, message string) *protocol.StatusError {
	return &protocol.StatusError{PB: &pb.Error{Code: code, Message: message, Stream: &pb.StreamRef{Stream: name}}}
}

// label is the name of a stream as people write it.
func label(name pb.Stream) string {
	switch name {
	case pb.Stream_STREAM_STDIN:
		return "stdin"
	case pb.Stream_STREAM_STDOUT:
		return "stdout"
	case pb.Stream_STREAM_STDERR:
		return "stderr"
	}
	return fmt.Sprintf("stream %d", name)
}
