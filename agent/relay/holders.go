//go:build linux

package relay

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

const (
	procDir    = "/proc"
	maxHolders = 16
)

// fileID says which file a descriptor is open on. The zero value is no file.
type fileID struct{ dev, ino uint64 }

func (id fileID) known() bool { return id != fileID{} }

func fileIDOf(f *os.File) (id fileID) {
	rc, err := f.SyscallConn()
	if err != nil {
		return fileID{}
	}
	_ = rc.Control(func(fd uintptr) { id = statID(int(fd)) })
	return id
}

func statID(fd int) fileID {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return fileID{}
	}
	return fileID{st.Dev, st.Ino}
}

// slaveOf opens the terminal's other side for a moment, which works across mount namespaces, to learn which file it is (ioctl_tty(2), TIOCGPTPEER).
func slaveOf(master *os.File) (id fileID) {
	rc, err := master.SyscallConn()
	if err != nil {
		return fileID{}
	}
	_ = rc.Control(func(fd uintptr) {
		peer, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCGPTPEER, unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
		if errno != 0 {
			return
		}
		id = statID(int(peer))
		_ = unix.Close(int(peer))
	})
	return id
}

// writeEnd says which file the output's writers have open. mu is held.
func (o *output) writeEnd() fileID {
	if o.terminal {
		return o.slave
	}
	return fileIDOf(o.src.file) // both ends of a pipe are one file
}

// findHolders looks for processes that have the file open for writing. Those it cannot look into, or that are gone by then, it leaves out.
func findHolders(proc string, id fileID) []*pb.Holder {
	dirs, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	var holders []*pb.Holder
	for _, d := range dirs {
		pid, err := strconv.ParseUint(d.Name(), 10, 32)
		if err != nil {
			continue
		}
		if !holds(filepath.Join(proc, d.Name()), id) {
			continue
		}
		holders = append(holders, describeHolder(filepath.Join(proc, d.Name()), uint32(pid)))
		if len(holders) == maxHolders {
			break
		}
	}
	return holders
}

// holds tells whether a process has the file open for writing.
func holds(dir string, id fileID) bool {
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, "fd", fd.Name()), &st) != nil || id != (fileID{st.Dev, st.Ino}) {
			continue
		}
		if writable(filepath.Join(dir, "fdinfo", fd.Name())) {
			return true
		}
	}
	return false
}

// writable reads the access mode that the descriptor was opened with (proc_pid_fdinfo(5): flags, octal).
func writable(fdinfo string) bool {
	b, err := os.ReadFile(fdinfo)
	if err != nil {
		return false
	}
	flags, err := strconv.ParseUint(field(string(b), "flags:"), 8, 64)
	return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY
}

func describeHolder(dir string, pid uint32) *pb.Holder {
	h := &pb.Holder{Pid: pid}
	if comm, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil {
		h.Name = strings.TrimSuffix(string(comm), "\n")
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return h
	}
	pids := strings.Fields(field(string(status), "NSpid:"))
	if len(pids) > 0 {
		inner, _ := strconv.ParseUint(pids[len(pids)-1], 10, 32)
		h.ContainerPid = uint32(inner)
	}
	return h
}

// field gives what stands behind name at the beginning of a line.
func field(text, name string) string {
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), name); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
