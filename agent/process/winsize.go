package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// SetSize sets the size of the terminal behind master.
func SetSize(master *os.File, size *pb.Size) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot set the terminal's size: %w", err)
	}
	var ioctlErr error
	if err := raw.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, winsize(size))
	}); err != nil {
		return fmt.Errorf("cannot set the terminal's size: %w", err)
	}
	return ioctlErr
}
