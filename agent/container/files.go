//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/initfilter"
	"github.com/bellhop-vm/bellhop/agent/seqpacket"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// initFiles are the files that libcontainer's init is given beside its own.
type initFiles struct {
	reportRead, reportWrite *os.File // the pipe of Init, or, if it is given its filter, the socket pair
	statusRead, statusWrite *os.File // on which a built-in init says how its program ended; nil without a built-in process
	console, consoleChild   *os.File // socket pair over which the terminal's master comes; nil without a terminal
}

// newInitFiles opens the files and gives them, and stdio, to lp.
func newInitFiles(lp *libcontainer.Process, cfg *configs.Config, req *Request, givenFilter bool) (_ *initFiles, err error) {
	f := new(initFiles)
	makeReport := os.Pipe
	if givenFilter {
		makeReport = initfilter.Sockets
	}
	if f.reportRead, f.reportWrite, err = makeReport(); err != nil {
		return nil, fmt.Errorf("cannot make pipe for reports: %w", err)
	}
	lp.ExtraFiles = []*os.File{f.reportWrite}
	if req.BuiltIn != pb.BuiltIn_BUILT_IN_NONE {
		if f.statusRead, f.statusWrite, err = os.Pipe(); err != nil {
			f.close()
			return nil, fmt.Errorf("cannot make pipe: %w", err)
		}
		lp.ExtraFiles = append(lp.ExtraFiles, f.statusWrite, f.reportWrite) // builtin.StatusFD and ReportFD
	}
	p := req.Spec.Process
	if !p.Terminal {
		lp.Stdin, lp.Stdout, lp.Stderr = req.Stdio[0], req.Stdio[1], req.Stdio[2]
		// Libcontainer gives the process its stdin and stdout, and in the place of stderr the report pipe (Init).
		return f, own(req.Stdio[2], p.User.UID, cfg)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		f.close()
		return nil, fmt.Errorf("cannot make console socket: %w", err)
	}
	f.console, f.consoleChild = os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")
	lp.ConsoleSocket = f.consoleChild
	if p.ConsoleSize != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	if req.Size != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(req.Size.Columns), uint16(req.Size.Rows)
	}
	return f, nil
}

// own gives a stdio file to the container's user, as libcontainer does. What cannot be given, such as a socket or a file of a user that is not mapped, stays as it is.
func own(f *os.File, uid uint32, cfg *configs.Config) error {
	host, err := cfg.HostUID(int(uid))
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at stderr: %w", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFIFO {
		_ = unix.Fchown(int(f.Fd()), host, -1)
	}
	return nil
}

// take gives the agent's ends to the caller when init has its own, of which the agent's copies are closed: so who reads learns of init's end.
func (f *initFiles) take() (report, status *os.File) {
	report, status = f.reportRead, f.statusRead
	f.reportRead, f.statusRead = nil, nil
	_ = f.reportWrite.Close()
	if f.statusWrite != nil {
		_ = f.statusWrite.Close()
	}
	return report, status
}

func (f *initFiles) close() {
	for _, file := range []*os.File{f.reportRead, f.reportWrite, f.statusRead, f.statusWrite, f.console, f.consoleChild} {
		if file != nil {
			_ = file.Close()
		}
	}
}

// receiveMaster takes the terminal's master from the console socket. Init sent it before it said that it was ready, so this never waits.
func (f *initFiles) receiveMaster() (*os.File, error) {
	var name [64]byte
	oob := make([]byte, unix.CmsgSpace(4*4))
	_, n, _, _, err := unix.Recvmsg(int(f.console.Fd()), name[:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot receive the terminal: %w", err)
	}
	fds, err := seqpacket.Rights(oob[:n])
	if err != nil || len(fds) != 1 {
		seqpacket.CloseAll(fds)
		return nil, errors.Join(fmt.Errorf("cannot receive the terminal: %d files came", len(fds)), err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that the runtime polls it
		_ = unix.Close(fds[0])
		return nil, fmt.Errorf("cannot receive the terminal: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}
