//go:build linux

package extruntime

// #include "keeper.h"
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seqpacket"
)

// errKeeperGone says that a keeper has died before it had reported everything.
var errKeeperGone = errors.New("the process that kept watch over it was killed")

// The kinds of events, see keeper.h.
const (
	eventStarted      = C.KEEPER_STARTED
	eventCommandEnded = C.KEEPER_COMMAND_ENDED
	eventAdopted      = C.KEEPER_ADOPTED
	eventEnded        = C.KEEPER_ENDED
	eventFailed       = C.KEEPER_FAILED
)

// eventSize is the size of struct keeper_event in bytes.
const eventSize = C.sizeof_struct_keeper_event

// event is one message of a keeper.
type event struct {
	kind  uint32
	pid   int
	value int32
	step  uint32
}

// parseEvent reads a message, which must have exactly one event.
func parseEvent(b []byte) (event, error) {
	if len(b) != eventSize {
		return event{}, fmt.Errorf("keeper sent %d bytes, must be %d", len(b), eventSize)
	}
	word := binary.NativeEndian.Uint32
	e := event{kind: word(b), pid: int(int32(word(b[4:]))), value: int32(word(b[8:])), step: word(b[12:])}
	if e.kind < eventStarted || e.kind > eventFailed {
		return event{}, fmt.Errorf("keeper sent an event of unknown kind %d", e.kind)
	}
	return e, nil
}

// keeperError is an event of failure.
type keeperError struct {
	step  uint32
	errno syscall.Errno
}

var stepNames = map[uint32]string{
	C.KEEPER_STEP_SETUP:    "cannot prepare to run the runtime",
	C.KEEPER_STEP_FORK:     "cannot fork",
	C.KEEPER_STEP_EXEC:     "cannot execute the runtime",
	C.KEEPER_STEP_PID_FILE: "the runtime's pid file names no process that it left",
	C.KEEPER_STEP_WAIT:     "cannot wait",
}

func (e *keeperError) Error() string {
	name, ok := stepNames[e.step]
	if !ok {
		name = fmt.Sprintf("step %d failed", e.step)
	}
	return name + ": " + e.errno.Error()
}

func (e *keeperError) Unwrap() error { return e.errno }

// next waits for an event of the given kind. The file, of events that have one, is the caller's.
func (k *keeper) next(kind uint32) (event, *os.File, error) {
	var b [eventSize + 1]byte // one more, so that a longer message is noticed
	n, files, err := receive(k.socket, b[:])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return event{}, nil, errKeeperGone
	case err != nil && k.isClosed():
		return event{}, nil, os.ErrClosed
	case err != nil:
		return event{}, nil, fmt.Errorf("cannot hear the keeper: %w", err)
	}
	e, err := parseEvent(b[:n])
	switch {
	case err != nil:
	case e.kind == eventFailed:
		err = &keeperError{step: e.step, errno: syscall.Errno(e.value)}
	case e.kind != kind:
		err = fmt.Errorf("keeper sent event %d, expected %d", e.kind, kind)
	case (kind == eventStarted || kind == eventAdopted) && len(files) == 1:
		return e, files[0], nil
	case len(files) != 0 || kind == eventStarted || kind == eventAdopted:
		err = fmt.Errorf("keeper sent %d files with event %d", len(files), kind)
	default:
		return e, nil, nil
	}
	closeFiles(files)
	return event{}, nil, err
}

// maxFiles is the most that one message may carry here: more is cut off by the kernel, which closes the rest.
const maxFiles = 4

// receive reads one message with its files, which are the caller's. The end of the socket is io.EOF.
func receive(socket syscall.Conn, b []byte) (int, []*os.File, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	n, fds, err := seqpacket.Receive(raw, b, make([]byte, unix.CmsgSpace(4*maxFiles)))
	if err != nil {
		return 0, nil, err
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "received")
	}
	return n, files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}
