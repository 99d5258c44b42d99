//go:build linux

package container

import (
	"os"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // its constructor joins and makes namespaces before the Go runtime starts
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/initfilter"
)

// execReport is the file descriptor in libcontainer's init on which it says why it could not execute the program: its first extra file.
const execReport = 3

// IsInit says whether this run of the binary is libcontainer's init of a container. Its pid may be 1: the container's.
func IsInit() bool {
	return len(os.Args) > 1 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != ""
}

// Init becomes the container's first process. It does not return.
//
// Libcontainer keeps its extra files open for the program, and prints the error of a failed execve to os.Stderr, as nobody listens on its pipes by then. So here
// the report pipe is made to close on exec and to be os.Stderr: an execve that succeeds closes it silently, one that fails says why. (File descriptor 2 is the container's all the same.)
// If it is a socket, the agent gives this init its seccomp filter over it.
func Init() {
	unix.CloseOnExec(execReport)
	if isSocket(execReport) {
		initfilter.Listen(execReport)
	}
	os.Stderr = os.NewFile(execReport, "exec report")
	libcontainer.Init()
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}
