//go:build linux

package nursery

// #include "request.h"
import "C"

import (
	"errors"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reply is what the child says; struct reply of request.h. A failure of the nursery itself is made one, too.
type reply struct {
	kind  uint32
	value int32
	step  uint32
	item  uint32
}

const (
	replyMaster = C.REPLY_MASTER
	replyFailed = C.REPLY_FAILED
	replySize   = int(unsafe.Sizeof(C.struct_reply{}))
	lastOwnStep = C.STEP_FORK // steps up to this one are the nursery's, later ones the child's
	stepRlimit  = C.STEP_RLIMIT
	stepCwd     = C.STEP_CWD
	stepOutside = C.STEP_CWD_OUTSIDE
	stepExec    = C.STEP_EXEC
)

var errReply = errors.New("malformed reply")

// parseReply reads a reply. The child is not trusted: a container may have got at it.
func parseReply(b []byte) (reply, error) {
	if len(b) != replySize {
		return reply{}, errReply
	}
	var c C.struct_reply
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), replySize), b)
	r := reply{kind: uint32(c.kind), value: int32(c.value), step: uint32(c.step), item: uint32(c.item)}
	switch r.kind {
	case replyFailed:
		if r.value <= 0 || r.value > 4095 { // MAX_ERRNO
			return reply{}, errReply
		}
	case replyMaster:
	default:
		return reply{}, errReply
	}
	return r, nil
}

// err makes an error of a failed step.
func (r *reply) err(req *Request) *ExecError {
	return &ExecError{Step: stepName(r.step), Detail: r.detail(req), Errno: syscall.Errno(r.value)}
}

func (r *reply) detail(req *Request) string {
	switch r.step {
	case stepCwd, stepOutside:
		return req.Cwd
	case stepExec:
		if req.Args[0] == "" {
			return `""`
		}
		if r.value == int32(unix.ENOENT) {
			return req.Args[0]
		}
		if paths := candidates(req); r.item < uint32(len(paths)) {
			return paths[r.item]
		}
	case stepRlimit:
		if r.item < uint32(len(req.Rlimits)) {
			return "RLIMIT " + strconv.Itoa(req.Rlimits[r.item].Resource)
		}
	}
	return ""
}
