// Command raw is what a Go program in the guest gets from vsock when there is nothing in between: it writes, reads or answers blocks on connections to the host.
//
//	raw out PORT BYTES BLOCK                write BYTES
//	raw in PORT BYTES BLOCK                 read BYTES
//	raw pong PORT CONNECTIONS COUNT SIZE    COUNT times, on each connection, read SIZE bytes and write them back
//
// Transfers begin when the peer has sent one byte (out) or has one (in), so that connecting is not measured; "in" sends one more when it has read all.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/mdlayher/vsock"
	"golang.org/x/sync/errgroup"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "raw:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: raw out|in PORT BYTES BLOCK, or raw pong PORT CONNECTIONS COUNT SIZE")

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	n := make([]int, len(args)-1)
	for i, a := range args[1:] {
		var err error
		if n[i], err = strconv.Atoi(a); err != nil || n[i] < 1 {
			return fmt.Errorf("%q is not a number from 1 on", a)
		}
	}
	switch {
	case args[0] == "out" && len(n) == 3:
		return withConn(n[0], func(c *vsock.Conn) error { return out(c, n[1], n[2]) })
	case args[0] == "in" && len(n) == 3:
		return withConn(n[0], func(c *vsock.Conn) error { return in(c, n[1], n[2]) })
	case args[0] == "pong" && len(n) == 4:
		var g errgroup.Group
		for range n[1] {
			g.Go(func() error {
				return withConn(n[0], func(c *vsock.Conn) error { return pong(c, n[2], n[3]) })
			})
		}
		return g.Wait()
	}
	return errUsage
}

func withConn(port int, do func(*vsock.Conn) error) error {
	c, err := vsock.Dial(vsock.Host, uint32(port), nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

func out(c *vsock.Conn, bytes, block int) error {
	buf := make([]byte, block)
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		return err
	}
	for ; bytes > 0; bytes -= block {
		if _, err := c.Write(buf[:min(bytes, block)]); err != nil {
			return err
		}
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, _ = c.Read(buf) // until the host has read it all
	return nil
}

func in(c *vsock.Conn, bytes, block int) error {
	buf := make([]byte, block)
	if _, err := c.Write(buf[:1]); err != nil {
		return err
	}
	for bytes > 0 {
		n, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("%d bytes are missing: %w", bytes, err)
		}
		bytes -= n
	}
	_, err := c.Write(buf[:1])
	return err
}

func pong(c *vsock.Conn, count, size int) error {
	buf := make([]byte, size)
	for range count {
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
