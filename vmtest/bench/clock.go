package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/bellhop-vm/bellhop/vmtest"
)

// clock measures what the host has a machine do. Times are in seconds.
type clock interface {
	// measure returns what do takes.
	measure(do func() error) (float64, error)
	// trip returns the median of round trips of a byte on the machine's device, with a C program.
	trip(ctx context.Context) (float64, error)
}

// wallClock is the host's.
type wallClock struct{ vm *vmtest.VM }

func (wallClock) measure(do func() error) (float64, error) {
	start := time.Now()
	err := do()
	return time.Since(start).Seconds(), err
}

func (c wallClock) trip(ctx context.Context) (float64, error) { return barePingPong(ctx, c.vm, 1) }

// guestClock is that of a machine that counts instructions, asked over a connection. A guest that waits for the host spins, and its clock then goes on at some tenth of the host's speed:
// what the host does counts, but little.
type guestClock struct {
	conn   net.Conn
	asking float64 // what asking takes
}

const clockPort = 7001 // as rawPort

func newGuestClock(ctx context.Context, vm *vmtest.VM) (*guestClock, error) {
	l, err := vm.Machine.Listen(clockPort)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if err := vm.Client.Command(ctx, loadPath, "clock", strconv.Itoa(clockPort)).Start(); err != nil { // it ends with the machine
		return nil, err
	}
	conn, err := l.Accept()
	if err != nil {
		return nil, err
	}
	c := &guestClock{conn: conn}
	c.asking, err = c.trip(ctx)
	return c, err
}

// now returns the machine's monotonic time.
func (c *guestClock) now() (time.Duration, error) {
	var ns [8]byte
	if _, err := c.conn.Write(ns[:1]); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(c.conn, ns[:])
	return time.Duration(binary.LittleEndian.Uint64(ns[:])), err
}

func (c *guestClock) measure(do func() error) (float64, error) {
	took, err := c.between(do)
	return took - c.asking, err
}

func (c *guestClock) between(do func() error) (float64, error) {
	start, err := c.now()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	end, err := c.now()
	return (end - start).Seconds(), err
}

// trip measures nothing: what lies between two answers then is one round trip.
func (c *guestClock) trip(context.Context) (float64, error) {
	return medianOf(roundTrips, func() (float64, error) { return c.between(func() error { return nil }) })
}
