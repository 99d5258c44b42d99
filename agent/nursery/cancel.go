//go:build linux

package nursery

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// haltPoll is how often a child that is to stop is looked at. It is a matter of microseconds, except on a machine that is out of breath.
const haltPoll = time.Millisecond

// executed says whether the child of a cancelled request has begun its program: then the start has happened, and the child goes on. Otherwise it is stopped, and no instruction
// of the program will run if it is killed now. A child that is dead already goes on in this sense: its reply tells how far it came. The child is nobody else's and unreaped, so its
// pid is its own.
func (s *spawn) executed() (bool, error) {
	if err := unix.Kill(s.pid, unix.SIGSTOP); err != nil {
		return false, os.NewSyscallError("kill", err)
	}
	s.halt()
	waits, err := s.isNursery(s.pid)
	if err != nil || waits {
		return false, err
	}
	return true, os.NewSyscallError("kill", unix.Kill(s.pid, unix.SIGCONT))
}

// halt waits until the child does not run. If it sleeps in the kernel, its frozen cgroup's freezer included, it meets the stop before its next instruction.
func (s *spawn) halt() {
	for end := time.Now().Add(s.cfg.Bound); runs(s.pid) && time.Now().Before(end); time.Sleep(haltPoll) {
	}
}

// runs reads the state of a process (proc_pid_stat(5)).
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return ok && bytes.HasPrefix(rest, []byte("R"))
}

// isNursery says whether a live process still runs the binary that it was forked from. One that executes that very binary as its program is mistaken for such, and loses by it.
func (n *Nursery) isNursery(pid int) (bool, error) {
	own, err := n.exe.Stat()
	if err != nil {
		return false, err
	}
	its, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // a zombie
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(own, its), nil
}
