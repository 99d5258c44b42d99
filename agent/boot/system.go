//go:build linux && cgo

package boot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// agentOOMScore makes the agent the last process that the OOM killer picks
// without exempting it: -1000 would, and a leak of the agent's would then take
// everything else first.
const agentOOMScore = "-999"

// agentFiles is the agent's own limit of open files.
const agentFiles = 1 << 20

// protectAgent lowers the chance of the agent to be killed when memory runs out.
func protectAgent() error {
	if err := writeExisting("/proc/self/oom_score_adj", agentOOMScore); err != nil {
		return fmt.Errorf("cannot protect the agent from the OOM killer: %w", err)
	}
	return nil
}

// raiseFileLimit raises the agent's limit of open files, or, where it may not
// raise the hard limit, the soft one up to that.
func raiseFileLimit() error {
	limit := unix.Rlimit{Cur: agentFiles, Max: agentFiles}
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if errors.Is(err, unix.EPERM) && unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		return fmt.Errorf("cannot raise RLIMIT_NOFILE: %w", err)
	}
	return nil
}

// loopbackUp sets the flag IFF_UP of lo. The kernel gives it its addresses.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot bring up lo: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("cannot bring up lo: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("cannot bring up lo: %w", err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("cannot bring up lo: %w", err)
	}
	return nil
}

func setHostnameOf(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("cannot set the host name: %w", err)
	}
	return nil
}

// firstPlausibleYear is one before which no guest of this software ran.
const firstPlausibleYear = 2025

// checkClock sets the wall clock forward to the given time, which the host
// passed on the kernel command line. Machines without an RTC start in 1970,
// where every certificate is not yet valid.
func checkClock(atLeast time.Time) error {
	now := time.Now()
	if now.Before(atLeast) {
		tv := unix.NsecToTimeval(atLeast.UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			return fmt.Errorf("cannot set the clock: %w", err)
		}
		return nil
	}
	if now.Year() < firstPlausibleYear {
		return fmt.Errorf("the clock says %s: give the machine an RTC or bellhop.clock=SECONDS", now.UTC().Format(time.DateOnly))
	}
	return nil
}

// newInstance names this life of the agent. It never waits for the kernel's
// random numbers to be seeded: what it needs is to be different, not secret.
// seeded is false when waiting would have been necessary.
func newInstance() (id [16]byte, seeded bool, err error) {
	if n, err := unix.Getrandom(id[:], unix.GRND_NONBLOCK); err == nil && n == len(id) {
		return id, true, nil
	}
	if _, err := unix.Getrandom(id[:], unix.GRND_INSECURE); err != nil {
		return id, false, fmt.Errorf("cannot name this instance of the agent: %w", err)
	}
	return id, false, nil
}

// bootTime is the time since the kernel started, with suspension.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

func readCmdline() (string, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", fmt.Errorf("cannot read the kernel command line: %w", err)
	}
	return string(b), nil
}
