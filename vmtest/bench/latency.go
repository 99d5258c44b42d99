package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bellhop-vm/bellhop/vmtest"
)

const (
	roundTrips  = 500
	callBytes   = 64 // of the raw ping-pong that calls are compared with
	callers     = 64
	callsByEach = 50
)

// latencyFigures compare round trips with raw ones on the same device.
func latencyFigures() []figure {
	return []figure{
		{"echo", "<=2", func(ctx context.Context, b *bench) (float64, error) {
			return b.compare(ctx, "echo through cat, s, against a raw byte", echo, func(ctx context.Context, vm *vmtest.VM) (float64, error) {
				return rawPingPong(ctx, vm, 1)
			})
		}},
		{"echo-c", "-", func(ctx context.Context, b *bench) (float64, error) {
			return b.compare(ctx, "echo through cat, s, against a raw byte of a C program", echo, func(ctx context.Context, vm *vmtest.VM) (float64, error) {
				return barePingPong(ctx, vm, 1)
			})
		}},
		{"call-c", "-", func(ctx context.Context, b *bench) (float64, error) {
			return b.compare(ctx, "no-op call, s, against 64 raw bytes of a C program", call, func(ctx context.Context, vm *vmtest.VM) (float64, error) {
				return barePingPong(ctx, vm, callBytes)
			})
		}},
		{"call", "<=1.8", func(ctx context.Context, b *bench) (float64, error) {
			return b.compare(ctx, "no-op call, s, against 64 raw bytes", call, func(ctx context.Context, vm *vmtest.VM) (float64, error) {
				return rawPingPong(ctx, vm, callBytes)
			})
		}},
		{"calls-64", ">=0.75", func(ctx context.Context, b *bench) (float64, error) {
			return b.compare(ctx, "calls/s of 64 callers against 64 raw connections", manyCalls, manyPingPongs)
		}},
	}
}

func (b *bench) compare(ctx context.Context, name string, numerator, denominator func(context.Context, *vmtest.VM) (float64, error)) (float64, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return 0, err
	}
	return b.ratio(name,
		func() (float64, error) { return numerator(ctx, vm) },
		func() (float64, error) { return denominator(ctx, vm) })
}

// rawPingPong is the median time of one round trip of size bytes with a Go program in the guest, in seconds, barePingPong with a C program.
func rawPingPong(ctx context.Context, vm *vmtest.VM, size int) (float64, error) {
	return pingPong(ctx, vm, size, rawPath, "pong", strconv.Itoa(rawPort), "1")
}

func barePingPong(ctx context.Context, vm *vmtest.VM, size int) (float64, error) {
	return pingPong(ctx, vm, size, loadPath, "pong", strconv.Itoa(rawPort))
}

func pingPong(ctx context.Context, vm *vmtest.VM, size int, command ...string) (t float64, err error) {
	err = withRaw(ctx, vm, append(command, strconv.Itoa(roundTrips), strconv.Itoa(size)), func(c net.Conn) error {
		t, err = medianTrip(func() error { return trip(c, c, size) })
		return err
	})
	return t, err
}

// echo is the median time of a byte through a process's stdin and stdout.
func echo(ctx context.Context, vm *vmtest.VM) (float64, error) {
	cmd := vm.Client.Command(ctx, busybox, "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	t, err := medianTrip(func() error { return trip(in, out, 1) })
	in.Close()
	return t, errors.Join(err, cmd.Wait())
}

func call(ctx context.Context, vm *vmtest.VM) (float64, error) {
	return medianTrip(func() error { return vm.Client.Ping(ctx) })
}

func trip(w io.Writer, r io.Reader, size int) error {
	buf := make([]byte, size)
	if _, err := w.Write(buf); err != nil {
		return err
	}
	_, err := io.ReadFull(r, buf)
	return err
}

func medianTrip(do func() error) (float64, error) {
	times := make([]float64, 0, roundTrips)
	for range roundTrips {
		start := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start).Seconds())
	}
	return median(times), nil
}

// manyCalls is the rate of calls with 64 callers at once.
func manyCalls(ctx context.Context, vm *vmtest.VM) (float64, error) {
	start := time.Now()
	var g errgroup.Group
	for range callers {
		g.Go(func() error {
			for range callsByEach {
				if err := vm.Client.Ping(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return perSecond(callers*callsByEach, time.Since(start)), err
}

// manyPingPongs is the rate of raw round trips on 64 connections of a Go program at once.
func manyPingPongs(ctx context.Context, vm *vmtest.VM) (rate float64, err error) {
	l, err := vm.Machine.Listen(rawPort)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	cmd := vm.Client.Command(ctx, rawPath, "pong", strconv.Itoa(rawPort), strconv.Itoa(callers), strconv.Itoa(callsByEach), strconv.Itoa(callBytes))
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var conns []net.Conn
	for range callers {
		c, err := l.Accept()
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns = append(conns, c)
	}
	start := time.Now()
	var g errgroup.Group
	for _, c := range conns {
		g.Go(func() error {
			for range callsByEach {
				if err := trip(c, c, callBytes); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = g.Wait()
	rate = perSecond(callers*callsByEach, time.Since(start))
	return rate, errors.Join(err, cmd.Wait())
}
