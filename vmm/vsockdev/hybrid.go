package vsockdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// handshakeTimeout bounds how long a client may take for its CONNECT line, and the guest for its answer.
	handshakeTimeout = 10 * time.Second
	// maxConnectLine is the length of the longest valid line, "CONNECT 4294967295\n".
	maxConnectLine = len("CONNECT 4294967295\n")
)

var (
	errConnectLine = errors.New("not a line of the form CONNECT PORT")
	errServing     = errors.New("the device is served as a unix socket already")
)

// ServeHybrid offers the device as unix sockets in the form of Firecracker and Cloud Hypervisor, until ctx is done (it
// returns nil then) or the device ends.
//
// A client that connects to path and writes "CONNECT port\n" reads "OK n\n" and is then connected to that port of the
// guest; when the guest refuses, it reads end of file instead. A guest that dials a port without a listener in this
// process is connected to the unix socket path_port, if somebody listens on it. A half-close is passed on as one. The
// socket file has mode 0600, must not exist before, and is removed at the end.
func (d *Device) ServeHybrid(ctx context.Context, path string) error {
	config := net.ListenConfig{Control: privateSocket}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("cannot serve vsock at %s: %w", path, err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := &hybrid{dev: d, path: path, ctx: ctx}
	if err := d.setFallback(h.accept, func() { l.Close() }); err != nil {
		return fmt.Errorf("cannot serve vsock at %s: %w", path, err)
	}
	defer h.end(cancel)
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		client, err := l.Accept()
		switch {
		case err == nil:
			h.run(func() { h.serve(client.(*net.UnixConn)) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("cannot go on serving vsock at %s: %w", path, d.endReason())
		default:
			// Out of files, for example. The client is in the backlog still; give others time to close theirs.
			d.log.Warn("cannot accept a vsock client", "error", err)
			wait(ctx, 100*time.Millisecond)
		}
	}
}

// wait waits for a while or the context's end.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// hybrid is a running ServeHybrid, which owns and joins its goroutines.
type hybrid struct {
	dev  *Device
	path string
	ctx  context.Context // ends with ServeHybrid

	mu    sync.Mutex
	ended bool
	group sync.WaitGroup
}

// run starts f unless the service ends.
func (h *hybrid) run(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.group.Go(f)
	return true
}

// end ends the service and joins its goroutines.
func (h *hybrid) end(cancel context.CancelFunc) {
	h.dev.clearFallback()
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	cancel()
	h.group.Wait()
}

// serve connects a client to the port of the guest that it names.
func (h *hybrid) serve(client *net.UnixConn) {
	defer client.Close()
	// A client that has not said where to must not hold up the end of the service.
	defer context.AfterFunc(h.ctx, func() { client.Close() })()
	client.SetDeadline(time.Now().Add(handshakeTimeout))
	port, err := readConnect(client)
	if err != nil {
		h.dev.log.Debug("vsock client dropped", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, handshakeTimeout)
	defer cancel()
	c, err := h.dev.dial(ctx, port)
	if err != nil {
		h.dev.log.Debug("vsock client not connected", "port", port, "error", err)
		return
	}
	defer c.Close()
	if _, err := fmt.Fprintf(client, "OK %d\n", c.local.Port); err != nil {
		return
	}
	client.SetDeadline(time.Time{})
	relay(h.ctx, c, client)
}

// readConnect reads the CONNECT line, and nothing of what may follow it.
func readConnect(client *net.UnixConn) (port uint32, err error) {
	line := make([]byte, 0, maxConnectLine)
	for len(line) < maxConnectLine {
		n, err := client.Read(line[len(line) : len(line)+1])
		if err != nil {
			return 0, err
		}
		line = line[:len(line)+n]
		if line[len(line)-1] == '\n' {
			return parseConnect(string(line))
		}
	}
	return 0, errConnectLine
}

func parseConnect(line string) (port uint32, err error) {
	digits, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "CONNECT ")
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, errConnectLine
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, errConnectLine
	}
	return uint32(n), nil
}

// accept takes a connection that the guest has asked for, or reports false. It does not block.
func (h *hybrid) accept(c *Conn) bool {
	return h.run(func() {
		defer c.Close()
		ctx, cancel := context.WithTimeout(h.ctx, handshakeTimeout)
		defer cancel()
		var dialer net.Dialer
		s, err := dialer.DialContext(ctx, "unix", h.path+"_"+strconv.FormatUint(uint64(c.key.host), 10))
		if err != nil {
			h.dev.stats.refused.Add(1)
			c.reset(err)
			return
		}
		defer s.Close()
		if c.confirm() {
			relay(h.ctx, c, s.(*net.UnixConn))
		}
	})
}
