//go:build linux

// Package builtin has the programs that the agent's own binary can become as a container's first process, before the Go runtime starts: an init, and a process that only holds a pod together.
//
// The container executes /proc/self/exe, which in libcontainer's init is the agent's binary. It is sealed, so nothing in the container can overwrite it (runc's CVE-2019-5736), and nothing need be put into the
// container's root; a /proc must be mounted there.
package builtin

// #include "builtin.h"
import "C"

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitArgs gives the command line of the init that runs args, of which the first is looked up in the PATH of its environment.
func InitArgs(args []string) []string {
	return append([]string{C.BUILTIN_EXE, C.BUILTIN_INIT}, args...)
}

// PauseArgs gives the command line of the pause process.
func PauseArgs() []string { return []string{C.BUILTIN_EXE, C.BUILTIN_PAUSE} }

// The file descriptors of a built-in process: one is closed when it is ready, or told "errno N" if an init cannot execute its program; on the other an init says how that ended.
const (
	StatusFD = C.BUILTIN_STATUS
	ReportFD = C.BUILTIN_REPORT
)

// ReadStatus reads what an init that has ended said of its program's end, from the other end of StatusFD, which is a pipe that does not block. It is the word of a process in a container.
func ReadStatus(pipe *os.File) (status syscall.WaitStatus, ok bool) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return 0, false
	}
	var b [4]byte
	err = conn.Control(func(fd uintptr) {
		n, _ := unix.Read(int(fd), b[:])
		ok = n == len(b)
	})
	return syscall.WaitStatus(binary.NativeEndian.Uint32(b[:])), ok && err == nil
}
