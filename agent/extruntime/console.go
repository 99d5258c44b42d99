//go:build linux

package extruntime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// console is the socket to which a runtime sends the master of the terminal that it made, its --console-socket.
type console struct {
	l     *net.UnixListener
	bound time.Duration // of the wait for what a runtime has sent before it ended
}

// newConsole listens at path, which must be shorter than 108 bytes, unix(7).
func newConsole(path string) (*console, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot make console socket: %w", err)
	}
	return &console{l: l, bound: consoleBound}, nil
}

// close ends the socket and removes its path. It may be called on nil.
func (c *console) close() {
	if c != nil {
		_ = c.l.Close()
	}
}

// consoleBound is for a machine under load: what is waited for is there.
const consoleBound = 2 * time.Second

// master takes the terminal's master, which is the caller's, when the runtime has ended.
func (c *console) master() (*os.File, error) {
	f, err := c.receive()
	if err != nil {
		return nil, fmt.Errorf("cannot receive the terminal: %w", err)
	}
	return f, nil
}

func (c *console) receive() (*os.File, error) {
	deadline := time.Now().Add(c.bound)
	_ = c.l.SetDeadline(deadline)
	conn, err := c.l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	var name [4096]byte
	_, files, err := receive(conn, name[:])
	if err != nil {
		return nil, err
	}
	if len(files) != 1 || !isMaster(files[0]) {
		closeFiles(files)
		return nil, errors.New("the runtime sent something else")
	}
	return files[0], nil
}

// isMaster says whether f is the master of a pseudoterminal: only that has a number of its slave's.
func isMaster(f *os.File) bool {
	_, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPTN)
	return err == nil
}
