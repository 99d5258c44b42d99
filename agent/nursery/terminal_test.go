//go:build linux

package nursery

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readTerminal reads a master until its last user has closed the other side, which is EIO.
func readTerminal(t *testing.T, c *Child) string {
	t.Helper()
	if err := c.Master.SetReadDeadline(time.Now().Add(longTime)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, c.Master); err != nil && !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}

func TestTerminal(t *testing.T) {
	each(t, func(t *testing.T, n *Nursery, in func(...string) Request) {
		r := in("sh", "-c", `tty; stty size; stat -c "%u %a" $(tty); read pid comm state ppid pgrp session tty rest < /proc/self/stat; [ $tty != 0 ] && [ $pid = $session ] && echo controlling; echo x > /dev/tty; for i in 0 1 2; do readlink /proc/self/fd/$i; done; read line; echo "<$line>"`)
		r.Terminal, r.Size, r.UID = true, Size{Columns: 132, Rows: 43}, 1000
		c, err := n.Spawn(t.Context(), &r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Master.Write([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		out := readTerminal(t, c)
		s := finish(t, c)
		for _, want := range []string{"/dev/pts/", "43 132\n", "\n1000 6", "controlling\n", "\nx\n", "<hello>\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("output = %q; want %q in it", out, want)
			}
		}
		if s.Code != 0 || strings.Count(out, "/dev/pts/") != 4 {
			t.Errorf("status %v, output %q; want success, and the terminal at all of stdio", s, out)
		}
	})
}

// A failure after the terminal has been made leaves no master behind, and a hang-up reaches the process.
func TestTerminalEnds(t *testing.T) {
	n := startNursery(t, Config{})
	b := newBox(t, boxOptions{})
	files := openFiles(t)
	r := b.in("nope")
	r.Terminal = true
	if e := spawnError(t, n, r); e.Step != StepExec || e.Errno != unix.ENOENT {
		t.Errorf("Spawn() = %v; want exec: ENOENT", e)
	}
	eventually(t, "no file is left", func() bool { return openFiles(t) == files })
	r = b.in("sleep", "1000")
	r.Terminal = true
	c, err := n.Spawn(t.Context(), &r)
	if err != nil {
		t.Fatal(err)
	}
	c.Master.Close()
	if s := finish(t, c); s.Signal != unix.SIGHUP {
		t.Errorf("status after the master is closed = %v; want hangup", s)
	}
}

// What a hostile container puts in the way of a terminal is refused, not followed and not opened.
func TestHostileTerminal(t *testing.T) {
	n := startNursery(t, Config{})
	for name, c := range map[string]struct {
		setup string
		errno unix.Errno
	}{
		"no devpts":               {"umount /dev/pts", unix.ENOENT},
		"symbolic link":           {"umount /dev/pts; rmdir /dev/pts; mkdir /tmp/pts; mount -t devpts -o newinstance,ptmxmode=666 x /tmp/pts; ln -s /tmp/pts /dev/pts", unix.ELOOP},
		"link into /proc":         {"umount /dev/pts; rmdir /dev/pts; ln -s /proc/self/fd /dev/pts", unix.ELOOP},
		"link above":              {"mv /dev /dev2; ln -s /dev2 /dev", unix.ELOOP},
		"directory":               {"umount /dev/pts; ln -s /etc/x /dev/pts/ptmx", unix.ENODEV},
		"pipe":                    {"umount /dev/pts; mknod /dev/pts/ptmx p", unix.ENODEV},
		"another file over ptmx":  {"mount -o bind /dev/zero /dev/pts/ptmx", unix.EXDEV},
		"another devpts' ptmx":    {"mkdir /tmp/pts; mount -t devpts -o newinstance,ptmxmode=666 x /tmp/pts; mount -o bind /tmp/pts/ptmx /dev/pts/ptmx", unix.EXDEV},
		"tmpfs with real devices": {"umount /dev/pts; mknod /dev/pts/ptmx c 5 2", unix.ENODEV},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, boxOptions{setup: "ln -s busybox /bin/mv; ln -s busybox /bin/rmdir; " + c.setup})
			ctx, cancel := context.WithTimeout(t.Context(), longTime)
			defer cancel()
			r := b.in("/bin/true")
			r.Terminal = true
			_, err := n.Spawn(ctx, &r)
			var e *ExecError
			if !errors.As(err, &e) || e.Step != StepTerminal || (e.Errno != c.errno && !(c.errno == unix.ENOENT && e.Errno == unix.ENODEV)) {
				t.Errorf("Spawn() = %v; want step %q, %v", err, StepTerminal, c.errno)
			}
		})
	}
}
