package vsockdev

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// read returns the next message and the files that came with it, which the caller closes.
func (f *frontend) read() (m message, files []int, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	head := make([]byte, messageHeaderSize)
	if files, err = f.readFull(head, files); err != nil {
		return m, files, err
	}
	m, size, err := parseMessageHeader(head)
	if err != nil {
		return m, files, err
	}
	m.payload = make([]byte, size)
	files, err = f.readFull(m.payload, files)
	return m, files, err
}

// readFull fills b and appends the files that arrive with it.
func (f *frontend) readFull(b []byte, files []int) ([]int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxRegions))
	for len(b) > 0 {
		n, oobn, _, _, err := f.conn.ReadMsgUnix(b, oob)
		got, oobErr := parseFiles(oob[:oobn])
		files = append(files, got...)
		switch {
		case err != nil:
			return files, err
		case oobErr != nil:
			return files, oobErr
		case n == 0:
			return files, io.EOF
		case len(files) > maxRegions:
			return files, fmt.Errorf("%w: %d files", errMessage, len(files))
		}
		b = b[n:]
	}
	return files, nil
}

func parseFiles(oob []byte) (files []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	for _, m := range messages {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // other kinds carry no files
		}
		files = append(files, got...)
	}
	return files, nil
}

// closeAll closes the files that nobody has taken over; those are negative.
func closeAll(files []int) {
	for _, fd := range files {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
