//go:build linux

// Package rlimit names resource limits as the OCI runtime-spec does, getrlimit(2).
package rlimit

import "golang.org/x/sys/unix"

// Number gives the kernel's number of a limit: RLIMIT_NOFILE.
func Number(name string) (int, bool) {
	for _, l := range limits {
		if l.name == name {
			return l.number, true
		}
	}
	return 0, false
}

// Name gives the name of a limit by the kernel's number; empty if there is none.
func Name(number int) string {
	for _, l := range limits {
		if l.number == number {
			return l.name
		}
	}
	return ""
}

var limits = [...]struct {
	name   string
	number int
}{
	{"RLIMIT_AS", unix.RLIMIT_AS},
	{"RLIMIT_CORE", unix.RLIMIT_CORE},
	{"RLIMIT_CPU", unix.RLIMIT_CPU},
	{"RLIMIT_DATA", unix.RLIMIT_DATA},
	{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE},
	{"RLIMIT_LOCKS", unix.RLIMIT_LOCKS},
	{"RLIMIT_MEMLOCK", unix.RLIMIT_MEMLOCK},
	{"RLIMIT_MSGQUEUE", unix.RLIMIT_MSGQUEUE},
	{"RLIMIT_NICE", unix.RLIMIT_NICE},
	{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE},
	{"RLIMIT_NPROC", unix.RLIMIT_NPROC},
	{"RLIMIT_RSS", unix.RLIMIT_RSS},
	{"RLIMIT_RTPRIO", unix.RLIMIT_RTPRIO},
	{"RLIMIT_RTTIME", unix.RLIMIT_RTTIME},
	{"RLIMIT_SIGPENDING", unix.RLIMIT_SIGPENDING},
	{"RLIMIT_STACK", unix.RLIMIT_STACK},
}

// Limit is one resource limit.
type Limit struct {
	Resource   int
	Soft, Hard uint64
}

// Defaults are the limits of a process whose spec names none, since the agent's own must not be inherited: it has raised that of open files, and libcontainer takes the one
// of locked memory off whoever makes a container with device rules, for eBPF. They are in files and bytes; that of locked memory is the kernel's own since Linux 5.16.
func Defaults() []Limit {
	return []Limit{
		{Resource: unix.RLIMIT_NOFILE, Soft: 1024, Hard: 512 << 10},
		{Resource: unix.RLIMIT_MEMLOCK, Soft: 8 << 20, Hard: 8 << 20},
	}
}
