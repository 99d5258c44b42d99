package hostclient

import (
	"fmt"
	"strconv"
	"strings"
)

// Signal is a signal of the guest's Linux, by number. Unlike syscall.Signal it is the same on every host.
type Signal uint32

const maxSignal = 64

// The signals of signal(7), as numbered on x86, Arm and RISC-V. Real-time signals are the numbers 34 to 64.
const (
	SIGHUP    Signal = 1
	SIGINT    Signal = 2
	SIGQUIT   Signal = 3
	SIGILL    Signal = 4
	SIGTRAP   Signal = 5
	SIGABRT   Signal = 6
	SIGBUS    Signal = 7
	SIGFPE    Signal = 8
	SIGKILL   Signal = 9
	SIGUSR1   Signal = 10
	SIGSEGV   Signal = 11
	SIGUSR2   Signal = 12
	SIGPIPE   Signal = 13
	SIGALRM   Signal = 14
	SIGTERM   Signal = 15
	SIGSTKFLT Signal = 16
	SIGCHLD   Signal = 17
	SIGCONT   Signal = 18
	SIGSTOP   Signal = 19
	SIGTSTP   Signal = 20
	SIGTTIN   Signal = 21
	SIGTTOU   Signal = 22
	SIGURG    Signal = 23
	SIGXCPU   Signal = 24
	SIGXFSZ   Signal = 25
	SIGVTALRM Signal = 26
	SIGPROF   Signal = 27
	SIGWINCH  Signal = 28
	SIGIO     Signal = 29
	SIGPWR    Signal = 30
	SIGSYS    Signal = 31
)

// signalName gives the names by number; those that are empty have none.
func signalName(s Signal) string {
	names := [...]string{
		"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
		"STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
	}
	if int(s) < len(names) {
		return names[s]
	}
	return ""
}

// String gives the name, as SIGTERM, or "signal 34" where there is none.
func (s Signal) String() string {
	if name := signalName(s); name != "" {
		return "SIG" + name
	}
	return fmt.Sprintf("signal %d", uint32(s))
}

// ParseSignal takes a number from 1 to 64, or a name with or without SIG, in any case.
func ParseSignal(text string) (Signal, error) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		if n < 1 || n > maxSignal {
			return 0, invalid("signal %d, must be 1 to %d", n, maxSignal)
		}
		return Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for s := SIGHUP; s <= SIGSYS; s++ {
		if signalName(s) == name {
			return s, nil
		}
	}
	return 0, invalid("unknown signal %q", text)
}
