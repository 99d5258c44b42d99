//go:build linux

// Package seccomp compiles the seccomp profiles of specs into filters for the kernel, with the meaning that libcontainer gives them.
package seccomp

// A Filter is what seccomp(2) takes. The zero Filter is none. Nobody may change one.
type Filter struct {
	Flags   uint32 // SECCOMP_FILTER_FLAG_*
	Program []byte // at most unix.BPF_MAXINSNS times a struct sock_filter
}

// IsZero says whether there is no filter.
func (f Filter) IsZero() bool { return len(f.Program) == 0 }
