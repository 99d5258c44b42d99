package vsockdev

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

const relayBuffer = 64 << 10

// relay copies between a connection and a unix socket until both directions are over, or ctx is done. It passes on the
// end of each direction as what it is: a half-close as a half-close, a close as a close, also of a side that is silent.
// Both are closed then.
func relay(ctx context.Context, c *Conn, s *net.UnixConn) {
	closeBoth := func() {
		c.Close()
		s.Close()
	}
	defer context.AfterFunc(ctx, closeBoth)()
	var copies, watches sync.WaitGroup
	copies.Add(2)
	watches.Go(func() {
		err := copyOneWay(c, s)
		copies.Done()
		switch {
		case errors.Is(err, syscall.EPIPE): // the guest no longer reads
			s.CloseRead()
		case err != nil:
			closeBoth()
		default:
			c.CloseWrite()
			if waitHangup(s) {
				c.CloseRead()
			}
		}
	})
	watches.Go(func() {
		err := copyOneWay(s, c)
		copies.Done()
		switch {
		case errors.Is(err, syscall.EPIPE): // the socket's owner no longer reads
			c.CloseRead()
		case err != nil:
			closeBoth()
		default:
			s.CloseWrite()
			c.waitWriteEnd()
			s.CloseRead()
		}
	})
	copies.Wait()
	closeBoth()
	watches.Wait()
}

// copyOneWay copies until the source's end of file, for which it returns nil, or an error of either.
func copyOneWay(to io.Writer, from io.Reader) error {
	buf := make([]byte, relayBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
