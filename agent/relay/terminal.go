//go:build linux

package relay

import (
	"os"

	"golang.org/x/sys/unix"
)

// lineState knows whether a terminal's input is in the middle of a line.
type lineState struct {
	last    byte
	touched bool
}

func (l *lineState) wrote(b []byte) {
	if len(b) > 0 {
		l.last, l.touched = b[len(b)-1], true
	}
}

// endOfFile gives what makes a terminal's process see the end of its input: the EOF character, twice in mid-line (the first ends the line, the second is the end of
// file). It is empty when the terminal is not canonical (termios(3)): there is no end of file then.
func (l *lineState) endOfFile(master *os.File) []byte {
	t, err := termios(master)
	if err != nil || t.Lflag&unix.ICANON == 0 || t.Cc[unix.VEOF] == disabledChar {
		return nil
	}
	eof := t.Cc[unix.VEOF]
	if l.midLine(t) {
		return []byte{eof, eof}
	}
	return []byte{eof}
}

// disabledChar is _POSIX_VDISABLE: the terminal has no such character.
const disabledChar = 0

func (l *lineState) midLine(t *unix.Termios) bool {
	if !l.touched || l.last == '\n' {
		return false
	}
	if l.last == '\r' && t.Iflag&(unix.ICRNL|unix.IGNCR) == unix.ICRNL {
		return false
	}
	for _, c := range []uint8{t.Cc[unix.VEOF], t.Cc[unix.VEOL], t.Cc[unix.VEOL2]} {
		if c != disabledChar && l.last == c {
			return false
		}
	}
	return true
}

// termios reads the attributes through the master: they are the slave's (pty(7)).
func termios(master *os.File) (t *unix.Termios, err error) {
	rc, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := rc.Control(func(fd uintptr) { t, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) }); cerr != nil {
		return nil, cerr
	}
	return t, err
}
