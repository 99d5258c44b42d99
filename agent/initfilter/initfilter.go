//go:build linux && cgo

// Package initfilter puts a compiled seccomp filter on libcontainer's init.
//
// Left to itself, libcontainer sends the profile to each init as JSON, which decodes and compiles it: a third of a container's life. But init is the agent's binary, and the agent has the
// filter compiled. So init starts a thread before libcontainer takes over, and when libcontainer has done its work and init waits to be released, the agent sends the filter to that thread,
// which installs it on all threads (SECCOMP_FILTER_FLAG_TSYNC, seccomp(2)). The one that executes the program is among them.
package initfilter

// #include "initfilter.h"
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seccomp"
)

// replyBound is how long an init has to answer: one that is stopped, by another process of its pid namespace, holds nobody.
const replyBound = 20 * time.Second

// threadFlags are those with which the C library makes a thread, pthread_create(3).
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SYSVSEM | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID

// Suits says whether the Go runtime can go on under the filter: it is on all threads of init, where libcontainer's is only on the one that executes the program. One that may refuse the
// others what they do must be left to libcontainer.
func Suits(f seccomp.Filter) bool {
	const allow = unix.SECCOMP_RET_ALLOW
	for _, call := range [...]uint32{
		unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_RESTART_SYSCALL, unix.SYS_SCHED_YIELD, unix.SYS_EPOLL_PWAIT, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE,
		unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_BRK, unix.SYS_PRCTL, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_EXIT,
		unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_TGKILL, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	} {
		if !only(f.Answers(call), allow) {
			return false
		}
	}
	// The C library takes ENOSYS for an old kernel, and uses clone(2).
	return only(f.Answers(unix.SYS_CLONE3), allow, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)) && only(f.Answers(unix.SYS_CLONE, threadFlags), allow)
}

// only says whether there are answers, and none but the good ones.
func only(answers []uint32, good ...uint32) bool {
	bad := func(a uint32) bool { return !slices.Contains(good, a) }
	return len(answers) > 0 && !slices.ContainsFunc(answers, bad)
}

// Sockets gives what Install and Listen have between them: a pair of stream sockets, both closed on exec, of which init's blocks and the agent's does not. The caller closes both.
func Sockets() (agents, inits *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "init"), os.NewFile(uintptr(fds[1]), "init"), nil
}

// Listen makes this process, an init that libcontainer has not set up yet, ready for Install at the other end of the socket. It does not wait.
func Listen(socket int) {
	if errno := C.initfilter_listen(C.int(socket)); errno != 0 {
		reply := binary.NativeEndian.AppendUint32(nil, uint32(errno))
		_, _ = unix.Write(socket, reply) // if nobody reads it, nobody starts this init
	}
}

// Install sends the filter to an init that waits to be released, and waits until it has it. What comes on the socket afterwards is the caller's.
func Install(socket *os.File, f seccomp.Filter) error {
	message := binary.NativeEndian.AppendUint32(nil, f.Flags) // struct initfilter_order
	message = binary.NativeEndian.AppendUint32(message, uint32(len(f.Program)/unix.SizeofSockFilter))
	if err := socket.SetDeadline(time.Now().Add(replyBound)); err != nil {
		return err
	}
	if _, err := socket.Write(append(message, f.Program...)); err != nil {
		return fmt.Errorf("cannot send the filter: %w", err)
	}
	var reply [4]byte
	if _, err := io.ReadFull(socket, reply[:]); err != nil {
		return fmt.Errorf("cannot tell whether the filter is set: %w", err)
	}
	if errno := syscall.Errno(binary.NativeEndian.Uint32(reply[:])); errno != 0 {
		return fmt.Errorf("seccomp(2): %w", errno)
	}
	return socket.SetDeadline(time.Time{})
}
