//go:build linux

package nursery

// #include "request.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/pidfd"
	"github.com/bellhop-vm/bellhop/agent/seqpacket"
)

// A process is the nursery process as the agent holds it.
type process struct {
	pid    int
	pidfd  *os.File
	socket *os.File // the agent's end of the request socket
	conn   syscall.RawConn
	memory []byte // of the ledger
}

// launch makes the nursery process from the agent's binary.
func launch(exe *os.File, limits []Rlimit) (*process, error) {
	p := &process{}
	remote, memory, err := p.connect()
	if err != nil {
		p.release()
		return nil, err
	}
	defer remote.Close()
	defer memory.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		p.release()
		return nil, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), C.NURSERY_SOCKET: remote.Fd(), C.NURSERY_LEDGER: memory.Fd(), C.NURSERY_EXE: exe.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	p.pid, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(C.NURSERY_EXE), []string{C.NURSERY_ARGV0}, attr)
	if err != nil {
		p.release()
		return nil, os.NewSyscallError("fork", err)
	}
	return p, p.adopt(limits)
}

// connect makes what the two processes share, and gives the nursery's ends.
func (p *process) connect() (remote, memory *os.File, err error) {
	if p.socket, remote, err = seqpacket.Pair("nursery"); err != nil {
		return nil, nil, err
	}
	if p.conn, err = p.socket.SyscallConn(); err == nil {
		memory, err = p.mapLedger()
	}
	if err != nil {
		remote.Close()
		return nil, nil, err
	}
	return remote, memory, nil
}

func (p *process) mapLedger() (*os.File, error) {
	size := C.LEDGER_ENTRIES * int(unsafe.Sizeof(C.struct_entry{}))
	fd, err := unix.MemfdCreate("nursery", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	memory := os.NewFile(uintptr(fd), "nursery")
	if err = memory.Truncate(int64(size)); err == nil {
		p.memory, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		memory.Close()
		return nil, err
	}
	return memory, nil
}

// adopt opens the new process' pidfd and sets the limits that its children inherit. On an error nothing is left.
func (p *process) adopt(limits []Rlimit) error {
	var err error
	if p.pidfd, err = pidfd.Open(p.pid); err == nil {
		for _, l := range limits {
			if err = unix.Prlimit(p.pid, l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
				err = fmt.Errorf("limit %d: %w", l.Resource, err)
				break
			}
		}
	}
	if err == nil {
		return nil
	}
	// It is this process' child, and nobody else waits for it, so the pid is still its own.
	_ = unix.Kill(p.pid, unix.SIGKILL)
	_, _ = syscall.Wait4(p.pid, nil, 0, nil)
	p.release()
	return err
}

// errGone says that the nursery has died or takes nothing any more.
var errGone = errors.New("nursery is gone")

// send puts one message into the nursery's queue. It blocks while the queue is full.
func (p *process) send(b, control []byte) error {
	var serr error
	err := p.conn.Write(func(fd uintptr) bool {
		for {
			serr = unix.Sendmsg(int(fd), b, control, nil, unix.MSG_NOSIGNAL)
			if serr != unix.EINTR {
				return serr != unix.EAGAIN
			}
		}
	})
	if err != nil {
		return fmt.Errorf("%w: %v", errGone, err) // closed, or the deadline is over
	}
	if serr == unix.EPIPE || serr == unix.ECONNRESET {
		return fmt.Errorf("%w: %v", errGone, serr)
	}
	return os.NewSyscallError("sendmsg", serr)
}

func (p *process) kill() { _ = pidfd.Signal(p.pidfd, unix.SIGKILL) }

const entries = C.LEDGER_ENTRIES

// An entry is what the ledger says of a request: the child's pid, or how the nursery itself has failed, or nothing yet.
type entry struct {
	pid    int
	failed *reply
}

func (p *process) entry(n int) *C.struct_entry {
	return (*C.struct_entry)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(p.memory)), uintptr(n)*unsafe.Sizeof(C.struct_entry{})))
}

// clear prepares an entry for the next request that names it.
func (p *process) clear(n int) { *p.entry(n) = C.struct_entry{} }

func (p *process) read(n int) entry {
	e := p.entry(n)
	if pid := atomic.LoadInt32((*int32)(unsafe.Pointer(&e.pid))); pid != 0 {
		return entry{pid: int(pid)}
	}
	if errno := atomic.LoadInt32((*int32)(unsafe.Pointer(&e.error))); errno != 0 {
		return entry{failed: &reply{kind: replyFailed, value: errno, step: uint32(e.step)}}
	}
	return entry{}
}

// release gives back what the agent holds of a process that has been reaped, or never was.
func (p *process) release() {
	for _, f := range []*os.File{p.pidfd, p.socket} {
		if f != nil {
			f.Close()
		}
	}
	if p.memory != nil {
		_ = unix.Munmap(p.memory)
		p.memory = nil
	}
}
