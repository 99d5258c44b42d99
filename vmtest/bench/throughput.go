package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

const (
	busyboxDir = vmtest.Rootfs + "/bin"

	rawPort   = 7000 // where the raw streams arrive; Bellhop's own listener is elsewhere
	blockSize = 64 << 10
	bulkBytes = 128 << 20

	smallBytes = 32 << 20 // in blocks of 4 KiB
)

// throughputFigures compare bulk transfers, as ratios of bytes per second. The raw stream is that of a Go program in the guest; of a C program, which has no runtime to pay for, it
// is in the figures that end in "-c" (docs/decisions/0011).
func throughputFigures() []figure {
	return []figure{
		{"stdout", ">=0.5", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "stdout, MiB/s", stdout, rawOut, bulkBytes, blockSize)
		}},
		{"stdin", ">=0.6", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "stdin, MiB/s", stdin, rawIn, bulkBytes, blockSize)
		}},
		{"stdout-4k", ">=1.2", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "stdout in blocks of 4 KiB, MiB/s", stdout, rawOut, smallBytes, 4<<10)
		}},
		{"direct", ">=1.1", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "stdout in direct mode, MiB/s", directStdout, rawOut, bulkBytes, blockSize)
		}},
		{"stdout-c", "-", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "stdout, MiB/s, against a C program", stdout, bareOut, bulkBytes, blockSize)
		}},
		{"stdin-c", "-", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "stdin, MiB/s, against a C program", stdin, bareIn, bulkBytes, blockSize)
		}},
		{"direct-c", "-", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "stdout in direct mode, MiB/s, against a C program", directStdout, bareOut, bulkBytes, blockSize)
		}},
		{"device-out", "-", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "device out, MiB/s, against a pipe in the guest", bareOut, guestPipe, bulkBytes, blockSize)
		}},
		{"device-in", "-", func(ctx context.Context, b *bench) (float64, error) {
			return b.againstRaw(ctx, "device in, MiB/s, against a pipe in the guest", bareIn, guestPipe, bulkBytes, blockSize)
		}},
	}
}

// transfer moves bytes in blocks and returns MiB per second.
type transfer func(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error)

func (b *bench) againstRaw(ctx context.Context, name string, t, raw transfer, bytes, block int) (float64, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return 0, err
	}
	return b.ratio(name,
		func() (float64, error) { return t(ctx, vm, bytes, block) },
		func() (float64, error) { return raw(ctx, vm, bytes, block) })
}

func mibPerSecond(bytes int, d time.Duration) float64 { return perSecond(bytes, d) / (1 << 20) }

// rawOut is a vsock connection on which a Go program in the guest writes and the host reads, bareOut the same with a C program.
func rawOut(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	return outwards(ctx, vm, bytes, block, rawPath, "out")
}

func bareOut(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	return outwards(ctx, vm, bytes, block, loadPath, "raw-out")
}

func outwards(ctx context.Context, vm *vmtest.VM, bytes, block int, command ...string) (rate float64, err error) {
	err = withRaw(ctx, vm, append(command, strconv.Itoa(rawPort), strconv.Itoa(bytes), strconv.Itoa(block)), func(c net.Conn) error {
		m := &meter{}
		if _, err := c.Write([]byte{0}); err != nil {
			return err
		}
		buf := make([]byte, 256<<10)
		for m.n < bytes {
			n, err := c.Read(buf)
			if err != nil {
				return err
			}
			m.Write(buf[:n])
		}
		rate = m.rate()
		return nil
	})
	return rate, err
}

// rawIn and bareIn are the same inwards.
func rawIn(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	return inwards(ctx, vm, bytes, block, rawPath, "in")
}

func bareIn(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	return inwards(ctx, vm, bytes, block, loadPath, "raw-in")
}

func inwards(ctx context.Context, vm *vmtest.VM, bytes, block int, command ...string) (rate float64, err error) {
	err = withRaw(ctx, vm, append(command, strconv.Itoa(rawPort), strconv.Itoa(bytes), strconv.Itoa(block)), func(c net.Conn) error {
		one := make([]byte, 1)
		if _, err := io.ReadFull(c, one); err != nil {
			return err
		}
		start := time.Now()
		buf := make([]byte, block)
		for left := bytes; left > 0; left -= len(buf) {
			if _, err := c.Write(buf[:min(left, block)]); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(c, one); err != nil {
			return err
		}
		rate = mibPerSecond(bytes, time.Since(start))
		return nil
	})
	return rate, err
}

// withRaw runs a command in the guest, outside every container, and do on the connection that it makes.
func withRaw(ctx context.Context, vm *vmtest.VM, command []string, do func(net.Conn) error) error {
	l, err := vm.Machine.Listen(rawPort)
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()

	var stderr bytes.Buffer
	cmd := vm.Client.Command(ctx, command[0], command[1:]...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	doErr := func() error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		return do(c)
	}()
	if doErr != nil {
		cancel()
	}
	if err := cmd.Wait(); err != nil && doErr == nil {
		return fmt.Errorf("%v: %s", err, stderr.Bytes())
	}
	return doErr
}

// stdout is a process that writes to its standard output.
func stdout(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	return writer(ctx, vm, bytes, block, nil)
}

// directStdout is the same where the standard output is the vsock connection itself.
func directStdout(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	return writer(ctx, vm, bytes, block, func(cfg *hostclient.ProcessConfig) { cfg.StdoutOptions.Direct = true })
}

func writer(ctx context.Context, vm *vmtest.VM, bytes, block int, change func(*hostclient.ProcessConfig)) (float64, error) {
	m := &meter{}
	cmd := vm.Client.Command(ctx, loadPath, "out", strconv.Itoa(bytes), strconv.Itoa(block))
	cmd.Stdout = m
	cmd.Config = change
	if err := cmd.Run(); err != nil {
		return 0, err
	}
	if m.n != bytes {
		return 0, fmt.Errorf("%d bytes came of %d", m.n, bytes)
	}
	return m.rate(), nil
}

// stdin is a process that reads its standard input; it writes a byte when it begins, and one when it has read all.
func stdin(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	cmd := vm.Client.Command(ctx, loadPath, "in", strconv.Itoa(bytes), strconv.Itoa(block))
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
	one := make([]byte, 1)
	if _, err := io.ReadFull(out, one); err != nil {
		return 0, errors.Join(err, cmd.Wait())
	}
	start := time.Now()
	buf := make([]byte, block)
	for left := bytes; left > 0; left -= len(buf) {
		if _, err := in.Write(buf[:min(left, block)]); err != nil {
			return 0, errors.Join(err, cmd.Wait())
		}
	}
	if _, err := io.ReadFull(out, one); err != nil {
		return 0, errors.Join(err, cmd.Wait())
	}
	took := time.Since(start)
	in.Close()
	return mibPerSecond(bytes, took), cmd.Wait()
}

// guestPipe is a pipe between two processes inside the guest, timed by the guest's clock.
func guestPipe(ctx context.Context, vm *vmtest.VM, bytes, block int) (float64, error) {
	out, err := vm.Client.Command(ctx, loadPath, "pipe", strconv.Itoa(bytes), strconv.Itoa(block)).Output()
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return 0, err
	}
	return mibPerSecond(bytes, time.Duration(ns)), nil
}

// meter counts what is written and times it from the first write to the last; what the first brought does not count.
type meter struct {
	n, first    int
	start, last time.Time
}

func (m *meter) Write(p []byte) (int, error) {
	m.last = time.Now()
	if m.n == 0 {
		m.start, m.first = m.last, len(p)
	}
	m.n += len(p)
	return len(p), nil
}

func (m *meter) rate() float64 { return mibPerSecond(m.n-m.first, m.last.Sub(m.start)) }
