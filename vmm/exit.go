package vmm

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrClosed is what Wait returns, and what Dial and Listen fail with, after Close.
var ErrClosed = errors.New("the VM was closed")

// Reason is why a VM ended, in QEMU's words (QMP's ShutdownCause).
type Reason string

// The reasons that callers tell apart.
const (
	ReasonShutdown Reason = "guest-shutdown" // the guest powered off
	ReasonReset    Reason = "guest-reset"    // it rebooted: a kernel panic does so too
	ReasonUnknown  Reason = ""               // QEMU ended without giving one
)

// ExitError says how a VM ended that neither powered off nor was ended by its
// owner. Error is one line and behind it the end of the console.
type ExitError struct {
	Reason  Reason
	State   *os.ProcessState // QEMU's status; nil if it was never started
	Stderr  string           // end of what QEMU said on its standard error
	Console string           // end of what the guest said on its console
}

// consoleLines is how much of the console's end an error shows.
const consoleLines = 12

// Error is safe to print: the guest's bytes are stripped of control characters.
func (e *ExitError) Error() string {
	var b strings.Builder
	b.WriteString("the VM ended: " + e.summary())
	lines := lastLines(e.Console, consoleLines)
	if len(lines) == 0 && !e.failed() {
		b.WriteString("; its console is empty")
	}
	for i, line := range lines {
		if i == 0 {
			b.WriteString("; its console ends:")
		}
		b.WriteString("\n\t" + line)
	}
	return b.String()
}

func (e *ExitError) summary() string {
	if panicked := panicLine(e.Console); panicked != "" {
		return panicked
	}
	if e.failed() {
		if lines := lastLines(e.Stderr, 1); len(lines) > 0 {
			return fmt.Sprintf("QEMU: %s (%v)", lines[0], e.State)
		}
		return fmt.Sprintf("QEMU: %v", e.State)
	}
	switch e.Reason {
	case ReasonReset:
		return "the guest rebooted"
	case ReasonUnknown:
		return "QEMU exited without a reason"
	}
	return string(e.Reason)
}

// failed says whether QEMU ended with an error of its own.
func (e *ExitError) failed() bool { return e.State != nil && !e.State.Success() }

// panicLine finds what the kernel said last before it gave up.
func panicLine(console string) string {
	const mark = "Kernel panic - "
	i := strings.LastIndex(console, mark)
	if i < 0 {
		return ""
	}
	line, _, _ := strings.Cut(console[i:], "\n")
	return printable(line)
}

// lastLines returns the last n lines of text that are not empty, printable.
func lastLines(text string, n int) []string {
	var out []string
	lines := strings.Split(text, "\n")
	for i := len(lines) - 1; i >= 0 && len(out) < n; i-- {
		if line := strings.TrimSpace(printable(lines[i])); line != "" {
			out = append([]string{line}, out...)
		}
	}
	return out
}

// printable drops control characters, so that a guest's console cannot drive the
// terminal of whoever reads an error, and bounds the length.
func printable(line string) string {
	const maxLine = 300
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', 0x7f <= r && r < 0xa0, r == '\ufffd':
			return -1
		}
		return r
	}, line)
	if runes := []rune(line); len(runes) > maxLine {
		return string(runes[:maxLine]) + "…"
	}
	return line
}
