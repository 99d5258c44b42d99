//go:build linux

package spawn

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// maxFamily bounds the descendants that are looked at: each holds a file descriptor for a moment.
const maxFamily = 256

// Family is a process's descendants as they were before it was killed. Afterwards they are the container's init's children and nothing tells
// whose they were.
type Family struct {
	members []member
}

type member struct {
	holder *pb.Holder
	pidfd  int
}

// FindFamily finds the descendants of leader among the processes of its container: those in the session that it began, and those whose ancestor it is. A daemon that left both is
// missed. The caller closes it.
func FindFamily(leader int, pids []int) *Family {
	stats := make(map[int]stat, len(pids))
	for _, pid := range pids {
		if s, err := readStat(pid); err == nil {
			stats[pid] = s
		}
	}
	f := new(Family)
	for pid, s := range stats {
		if pid != leader && len(f.members) < maxFamily && (s.session == leader || descends(pid, leader, stats)) {
			f.add(pid, s)
		}
	}
	return f
}

func (f *Family) add(pid int, s stat) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	f.members = append(f.members, member{
		holder: &pb.Holder{Pid: uint32(pid), ContainerPid: innerPID(pid), Name: s.name},
		pidfd:  fd,
	})
}

// Survivors names those that still live. A nil Family has none.
func (f *Family) Survivors() []*pb.Holder {
	if f == nil {
		return nil
	}
	var alive []*pb.Holder
	for _, m := range f.members {
		if unix.PidfdSendSignal(m.pidfd, 0, nil, 0) == nil {
			alive = append(alive, m.holder)
		}
	}
	return alive
}

// Close closes what Family holds of its members. It may be called on nil.
func (f *Family) Close() {
	if f == nil {
		return
	}
	for _, m := range f.members {
		_ = unix.Close(m.pidfd)
	}
	f.members = nil
}

// stat is what is used of /proc/PID/stat, proc(5).
type stat struct {
	name            string
	parent, session int
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads "pid (comm) state ppid pgrp session …", where comm may hold anything.
func parseStat(b []byte) (stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("cannot read process status %.32q", b)
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 4 {
		return stat{}, fmt.Errorf("cannot read process status %.32q", b)
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return stat{}, err
	}
	session, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return stat{}, err
	}
	return stat{name: string(b[open+1 : end]), parent: parent, session: session}, nil
}

// descends walks from pid to its ancestors. A snapshot that is not atomic may have a loop, so steps are bounded.
func descends(pid, ancestor int, stats map[int]stat) bool {
	for range len(stats) {
		s, ok := stats[pid]
		if !ok {
			return false
		}
		if s.parent == ancestor {
			return true
		}
		pid = s.parent
	}
	return false
}

// innerPID gives the pid in the process's own pid namespace, 0 if it is not known.
func innerPID(pid int) uint32 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			pids := strings.Fields(list)
			if len(pids) == 0 {
				return 0
			}
			n, _ := strconv.ParseUint(pids[len(pids)-1], 10, 32)
			return uint32(n)
		}
	}
	return 0
}
