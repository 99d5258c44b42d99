package hostclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxHybridReply bounds the line with which the monitor answers CONNECT: "OK ", a port of at most 10 digits and a newline, in bytes.
const maxHybridReply = 32

// HybridSocket is the [Transport] of monitors that offer their guest's vsock as unix sockets in the form of Firecracker, which Cloud Hypervisor and
// Bellhop's own device share: the host connects to path and writes "CONNECT port"; what the guest dials arrives at a socket that the host has bound at
// path, underscore, port.
//
// The sockets that Listen makes belong to the caller's user and follow its umask; a monitor that runs as another user must be let in by the directory.
func HybridSocket(path string) Transport { return hybridSocket(path) }

type hybridSocket string

func (path hybridSocket) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", string(path))
	if err != nil {
		return nil, fmt.Errorf("cannot dial guest port %d: %w", port, err)
	}
	if err := hybridConnect(ctx, conn, port); err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot dial guest port %d through %s: %w", port, string(path), err)
	}
	return conn, nil
}

// hybridConnect does the handshake on conn and reads no byte behind it, since the guest may have written already.
func hybridConnect(ctx context.Context, conn net.Conn, port uint32) error {
	release := interruptOn(ctx, conn)
	err := func() error {
		if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
			return err
		}
		return readHybridReply(conn)
	}()
	return release(err)
}

// readHybridReply reads "OK n\n" byte by byte. An end of file is the monitor's way to say that nobody listens.
func readHybridReply(r io.Reader) error {
	var line []byte
	var b [1]byte
	for len(line) < maxHybridReply {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("the monitor closed the connection: %w", syscall.ECONNREFUSED)
			}
			return err
		}
		if b[0] == '\n' {
			return checkHybridReply(string(line))
		}
		line = append(line, b[0])
	}
	return fmt.Errorf("the monitor's answer %q is no line of at most %d bytes", line, maxHybridReply)
}

func checkHybridReply(line string) error {
	port, ok := strings.CutPrefix(line, "OK ")
	if ok {
		_, err := strconv.ParseUint(port, 10, 32)
		ok = err == nil
	}
	if !ok {
		return fmt.Errorf("the monitor answered %q, not OK and a port", line)
	}
	return nil
}

func (path hybridSocket) Listen(port uint32) (net.Listener, error) {
	l, err := net.Listen("unix", fmt.Sprintf("%s_%d", string(path), port))
	if err != nil {
		return nil, fmt.Errorf("cannot listen on host port %d: %w", port, err)
	}
	return l, nil
}

// interruptOn makes the end of ctx end what is going on on conn. The returned function stops that, clears the deadline, and gives the
// context's cause in place of an error that the interruption made.
func interruptOn(ctx context.Context, conn net.Conn) (release func(error) error) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // any time that is over
		close(interrupted)
	})
	return func(err error) error {
		if !stop() {
			<-interrupted
		}
		_ = conn.SetDeadline(time.Time{})
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
}
