//go:build linux

package relay

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

// openTerminal gives a new terminal, with the slave as a process would set it: no echo, and canonical or not.
func openTerminal(t *testing.T, canonical bool) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no terminals here (%v): mount devpts on /dev/pts", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	attr, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	attr.Lflag &^= unix.ECHO
	attr.Oflag &^= unix.OPOST
	if !canonical {
		attr.Lflag &^= unix.ICANON
	}
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, attr); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "ptmx"), slave
}

// terminalSet connects a terminal's two streams. The process's side is slave.
func terminalSet(t *testing.T, canonical bool) (s *Set, in, out *hostConn, slave *os.File) {
	t.Helper()
	h := newFakeHost(t)
	master, slave := openTerminal(t, canonical)
	s, err := Connect(t.Context(), &Config{Dial: h.dial, Budget: NewBudget(0)}, Options{Stdio: stdioFor(stdin, stdout), Terminal: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for range 2 {
		if c := h.next(); c.Stream == stdin {
			in = c
		} else {
			out = c
		}
	}
	s.StartTerminal(master)
	return s, in, out, slave
}

// readAll reads the slave up to an end of file, as a process does.
func readAll(t *testing.T, slave *os.File) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		_, _ = io.Copy(&all, struct{ io.Reader }{slave})
		got <- all.String()
	}()
	select {
	case s := <-got:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("the terminal's process sees no end of file")
	}
	return ""
}

func TestTerminalEndOfInput(t *testing.T) {
	for _, text := range []string{"", "line\n", "line\nhalf", "\r", "two\nlines\n"} {
		t.Run(fmt.Sprintf("%q", text), func(t *testing.T) {
			s, in, _, slave := terminalSet(t, true)
			if text != "" {
				in.chunk(text)
			}
			in.end(uint64(len(text)))
			if got, want := readAll(t, slave), strings.ReplaceAll(text, "\r", "\n"); got != want {
				t.Errorf("the process read %q; want %q", got, want)
			}
			if r := in.lastRecord(t); r.Type != protocol.RecordEndAcked {
				t.Errorf("record %+v; want the end's ack", r)
			}
			// The master is still there: the process is not hung up, and can write.
			if _, err := slave.WriteString("still here"); err != nil || s.Master() == nil {
				t.Errorf("after the end of input: %v, master %v", err, s.Master())
			}
		})
	}
}

// TestTerminalWithoutLines: there is no end of file for a process that reads characters.
func TestTerminalWithoutLines(t *testing.T) {
	_, in, _, slave := terminalSet(t, false)
	in.chunk("abc")
	in.end(3)
	b := make([]byte, 10)
	if n, err := slave.Read(b); err != nil || string(b[:n]) != "abc" {
		t.Errorf("Read() = %q, %v; want %q", b[:n], err, "abc")
	}
	if r := in.lastRecord(t); r.Type != protocol.RecordEndAcked {
		t.Errorf("record %+v; want the end's ack", r)
	}
	fd := int(slave.Fd()) // once: Fd makes it blocking
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(fd, b); err != unix.EAGAIN {
		t.Errorf("read() = %d, %v; want nothing", n, err)
	}
}

// TestTerminalTakesShortWrites sends far more than a terminal's buffer to a process that is slow to begin.
func TestTerminalTakesShortWrites(t *testing.T) {
	s, in, _, slave := terminalSet(t, false)
	const total = 256 << 10
	want := strings.Repeat("0123456789abcdef", total/16)
	go func() {
		for at := 0; at < total; at += 32 << 10 {
			in.chunk(want[at : at+32<<10])
		}
		in.end(total)
	}()
	eventually(t, "the terminal is full", func() bool { return s.Info()[0].Offset > 0 })
	got := make([]byte, total)
	if _, err := io.ReadFull(slave, got); err != nil || string(got) != want {
		t.Errorf("the process read other bytes than were sent, %v", err)
	}
}

// TestTerminalOutput: what is written before the exit arrives, then the end; a process that still has the terminal is named.
func TestTerminalOutput(t *testing.T) {
	s, _, out, slave := terminalSet(t, true)
	_, _ = slave.WriteString("hello")
	rcv := stdio.NewReceiver(protocol.MaxChunk, 0)
	rcv.Attached()
	if got := out.data(t, rcv, 5); string(got) != "hello" {
		t.Errorf("stdout = %q", got)
	}
	out.send(protocol.Record{Type: protocol.RecordAck, Offset: 5})
	s.ProcessExited()
	outs, err := s.WaitDrained(t.Context(), 20*time.Millisecond)
	if err != nil || outs[0].Drained || len(outs[0].Holders) != 1 || outs[0].Holders[0].Pid != uint32(os.Getpid()) {
		t.Errorf("WaitDrained() = %v, %v; want this process as holder", outs, err)
	}
	slave.Close()
	b := make([]byte, protocol.EndSize)
	if _, err := io.ReadFull(out, b); err != nil || !bytes.Equal(b, protocol.AppendEnd(nil, 5)) {
		t.Errorf("the end is %x, %v", b, err)
	}
	out.send(protocol.Record{Type: protocol.RecordEndAcked, Offset: 5})
	if outs, err := s.WaitDrained(t.Context(), -1); err != nil || !outs[0].Drained {
		t.Errorf("WaitDrained() = %v, %v; want drained", outs, err)
	}
}

// TestStoppedTerminalGoesOn: the host's writer failed; the master stays open and is emptied, so the process is neither hung up nor blocked.
func TestStoppedTerminalGoesOn(t *testing.T) {
	s, _, out, slave := terminalSet(t, true)
	_, _ = slave.WriteString("x")
	rcv := stdio.NewReceiver(protocol.MaxChunk, 0)
	rcv.Attached()
	out.data(t, rcv, 1)
	out.send(protocol.Record{Type: protocol.RecordStop, Reason: protocol.StopWriterFailed, Offset: 1})
	wrote := make(chan error, 1)
	go func() {
		_, err := slave.Write(make([]byte, 256<<10))
		wrote <- err
	}()
	select {
	case err := <-wrote:
		if err != nil {
			t.Errorf("Write() = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the process is blocked")
	}
	if outs, err := s.WaitDrained(t.Context(), -1); err != nil || !outs[0].Stopped || outs[0].Length != 1 {
		t.Errorf("WaitDrained() = %v, %v; want stopped at 1", outs, err)
	}
}

func TestDirect(t *testing.T) {
	h := newFakeHost(t)
	o := stdioFor(stdout)
	o[0].Mode = pb.StdioMode_STDIO_MODE_DIRECT
	s, files := newSet(t, h, Options{Stdio: o})
	c := h.next()
	s.Start()
	flags, err := unix.FcntlInt(files[1].Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v; want a blocking descriptor", flags, err)
	}
	_, _ = files[1].WriteString("raw")
	files[1].Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "raw" {
		t.Errorf("the host read %q, %v; want %q and the end", got, err, "raw")
	}
	if outs, err := s.WaitDrained(t.Context(), -1); err != nil || len(outs) != 0 {
		t.Errorf("WaitDrained() = %v, %v; want nothing to wait for", outs, err)
	}
	if i := s.Info(); len(i) != 1 || !i[0].Direct {
		t.Errorf("Info() = %v; want a direct stream", i)
	}
	_, err = s.Attach(t.Context(), &pb.Attach{Streams: []*pb.AttachStream{{Stream: stdout, Generation: 1, Token: testToken}}}, nil, nil)
	if protocol.CodeOf(err) != pb.Code_CODE_FAILED_PRECONDITION {
		t.Errorf("Attach() = %v; want failed precondition", err)
	}
}
