//go:build linux

package seqpacket

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLastMessage has a peer send and close at once while the receiver looks all the time. Without the second look about one in 10,000 last messages is not seen.
func TestLastMessage(t *testing.T) {
	const rounds = 30_000
	next, lost := make(chan int), 0
	go func() {
		for fd := range next {
			if _, err := unix.Write(fd, []byte("last words")); err != nil {
				t.Error(err)
			}
			unix.Close(fd)
		}
	}()
	defer close(next)
	b := make([]byte, 64)
	for range rounds {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		next <- fds[1]
		n, _, err := recvmsg(fds[0], b, nil)
		for err == unix.EAGAIN {
			n, _, err = recvmsg(fds[0], b, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			lost++
		}
		unix.Close(fds[0])
	}
	if lost > 0 {
		t.Errorf("%d of %d last messages were lost", lost, rounds)
	}
}

// TestReceive sends a message with files, then ends.
func TestReceive(t *testing.T) {
	local, remote, err := Pair("test")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	conn, err := local.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	if err := unix.Sendmsg(int(remote.Fd()), []byte("two files"), unix.UnixRights(int(zero.Fd()), int(zero.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	remote.Close()
	b, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4*4))
	n, fds, err := Receive(conn, b, control)
	if err != nil || string(b[:n]) != "two files" || len(fds) != 2 {
		t.Fatalf("Receive() = %q, %v, %v; want the message and two files", b[:n], fds, err)
	}
	for _, fd := range fds {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("a received file has flags %#x, %v; want it closed on exec", flags, err)
		}
	}
	CloseAll(fds)
	if _, _, err := Receive(conn, b, control); err != io.EOF {
		t.Errorf("Receive() behind the last message = %v; want io.EOF", err)
	}
}
