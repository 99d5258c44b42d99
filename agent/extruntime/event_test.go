//go:build linux

package extruntime

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestParseEvent has golden vectors for the little-endian machines that this runs on.
func TestParseEvent(t *testing.T) {
	for _, tt := range []struct {
		name, hex string
		want      event
		ok        bool
	}{
		{"started", "01000000d2040000 0000000000000000", event{kind: eventStarted, pid: 1234}, true},
		{"command ended", "02000000d2040000 0009000000000000", event{kind: eventCommandEnded, pid: 1234, value: 9 << 8}, true},
		{"ended", "04000000d2040000 8900000000000000", event{kind: eventEnded, pid: 1234, value: 0x89}, true},
		{"failed", "0500000000000000 0200000003000000", event{kind: eventFailed, value: 2, step: 3}, true},
		{"kind 0", "0000000000000000 0000000000000000", event{}, false},
		{"kind 6", "0600000000000000 0000000000000000", event{}, false},
		{"short", "0100000000000000", event{}, false},
		{"long", "0100000000000000 0000000000000000 00", event{}, false},
		{"empty", "", event{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := parseEvent(b); got != tt.want || (err == nil) != tt.ok {
				t.Errorf("parseEvent(%x) = %+v, %v; want %+v, success: %v", b, got, err, tt.want, tt.ok)
			}
		})
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add(make([]byte, eventSize))
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEvent(b)
		if (err == nil) != (len(b) == eventSize && e.kind >= eventStarted && e.kind <= eventFailed) {
			t.Errorf("parseEvent(%x) = %+v, %v", b, e, err)
		}
	})
}

// TestConsole sends what a runtime might to a console socket: only one file that is the master of a terminal is taken.
func TestConsole(t *testing.T) {
	for _, tt := range []struct {
		name string
		open func(t *testing.T) []int // to be sent; closed by the test
		ok   bool
	}{
		{"master", func(t *testing.T) []int { return []int{openFD(t, "/dev/ptmx")} }, true},
		{"two masters", func(t *testing.T) []int { return []int{openFD(t, "/dev/ptmx"), openFD(t, "/dev/ptmx")} }, false},
		{"another file", func(t *testing.T) []int { return []int{openFD(t, "/dev/null")} }, false},
		{"nothing", func(*testing.T) []int { return nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "") // short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			c, err := newConsole(dir + "/tty")
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			fds := tt.open(t)
			sendFiles(t, dir+"/tty", fds)
			master, err := c.master()
			if (err == nil) != tt.ok {
				t.Errorf("master() = %v, %v; want success: %v", master, err, tt.ok)
			}
			if master != nil {
				_ = master.Close()
			}
		})
	}
}

// TestSilentConsole has a runtime that connects and says nothing, and one that does not come.
func TestSilentConsole(t *testing.T) {
	for _, connect := range []bool{true, false} {
		dir := t.TempDir()
		c, err := newConsole(dir + "/tty")
		if err != nil {
			t.Fatal(err)
		}
		c.bound = 50 * time.Millisecond
		if connect {
			fd := dial(t, dir+"/tty")
			defer unix.Close(fd)
		}
		if f, err := c.master(); err == nil {
			t.Errorf("connected %v: master() = %v; want an error", connect, f)
		}
		c.close()
	}
}

func openFD(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func dial(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// sendFiles sends and closes the files, as a runtime does that ends.
func sendFiles(t *testing.T, path string, fds []int) {
	t.Helper()
	conn := dial(t, path)
	defer unix.Close(conn)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(conn, []byte("/dev/pts/0"), oob, nil, 0); err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
