package nested

import (
	"context"
	"net"
	"sync"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// cuttable is a transport that can lose all its connections.
type cuttable struct {
	hostclient.Transport

	mu    sync.Mutex
	conns []net.Conn
}

func (c *cuttable) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	conn, err := c.Transport.Dial(ctx, port)
	return c.keep(conn, err)
}

func (c *cuttable) Listen(port uint32) (net.Listener, error) {
	l, err := c.Transport.Listen(port)
	return &cuttableListener{l, c}, err
}

type cuttableListener struct {
	net.Listener
	c *cuttable
}

func (l *cuttableListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return l.c.keep(conn, err)
}

func (c *cuttable) keep(conn net.Conn, err error) (net.Conn, error) {
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// cut closes all connections that were open, and some that were closed already, and counts the former.
func (c *cuttable) cut() (open int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		if conn.Close() == nil {
			open++
		}
	}
	c.conns = nil
	return open
}
