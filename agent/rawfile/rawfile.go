//go:build linux

// Package rawfile reads small files without the runtime's poller, into which an os.File would try to enter each: that costs more than the read.
package rawfile

import (
	"io"

	"golang.org/x/sys/unix"
)

// File is a descriptor to read from, which stays the owner's to close.
type File int

// Read is read(2), again after a signal. Its errors are io.EOF and those of the kernel.
func (f File) Read(p []byte) (int, error) {
	for {
		switch n, err := unix.Read(int(f), p); {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
