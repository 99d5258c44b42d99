//go:build linux

package nursery

// #include "request.h"
import "C"

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// encode makes the message of a request, but for its ledger entry. Namespaces are the CLONE_NEW* that the kernel knows.
func encode(r *Request, namespaces uint32) (*message, error) {
	if err := check(r); err != nil {
		return nil, err
	}
	m := &message{words: make([]uint64, messageWords)}
	m.reserve(headerSize)
	h := C.struct_request{
		magic: C.REQUEST_MAGIC, namespaces: C.uint32_t(namespaces), files: C.uint32_t(fileBits(r)), flags: C.uint32_t(flagBits(r)),
		oom_score_adj: C.int32_t(r.OOMScoreAdj), uid: C.uint32_t(r.UID), gid: C.uint32_t(r.GID), umask: 0o22,
		columns: C.uint16_t(r.Size.Columns), rows: C.uint16_t(r.Size.Rows), ioprio: C.uint32_t(r.IOPriority), seccomp_flags: C.uint32_t(r.Seccomp.Flags),
	}
	encodeOptional(&h, r)
	h.limits = m.addBytes(asBytes(encodeLimits(r.Rlimits)), len(r.Rlimits))
	h.groups = m.addBytes(asBytes(r.Groups), len(r.Groups))
	h.seccomp = m.addBytes(r.Seccomp.Program, len(r.Seccomp.Program)/unix.SizeofSockFilter)
	affinity := setBytes(r.Affinity)
	h.affinity = m.addBytes(affinity, len(affinity))
	if r.MemoryPolicy != nil {
		nodes := setBytes(r.MemoryPolicy.Nodes)
		h.nodes = m.addBytes(nodes, len(nodes))
	}
	h.cwd, h.keyring = m.addOptional(r.Cwd), m.addOptional(r.Keyring)
	h.apparmor, h.selinux = m.addOptional(r.AppArmor), m.addOptional(r.SELinux)
	paths := candidates(r)
	h.paths, h.args, h.env = m.addStrings(paths...), m.addStrings(r.Args...), m.addStrings(r.Env...)
	pointers := len(paths) + len(r.Args) + len(r.Env) + 3
	h.pointers = C.struct_span{off: C.uint32_t(m.reserve(8 * pointers)), count: C.uint32_t(pointers)}
	if m.end > C.REQUEST_MAX {
		return nil, fmt.Errorf("%w: %d bytes of arguments and environment", ErrInvalid, m.end)
	}
	if m.end > C.REQUEST_INLINE_MAX {
		h.files |= C.FILE_CONFIG
	}
	h.size = C.uint32_t(m.end)
	*m.header() = h
	return m, nil
}

// encodeOptional sets the fields of what a request need not have.
func encodeOptional(h *C.struct_request, r *Request) {
	if r.Umask != nil {
		h.umask = C.uint32_t(*r.Umask)
	}
	if c := r.Capabilities; c != nil {
		h.bounding, h.effective, h.permitted = C.uint64_t(c.Bounding), C.uint64_t(c.Effective), C.uint64_t(c.Permitted)
		h.inheritable, h.ambient = C.uint64_t(c.Inheritable), C.uint64_t(c.Ambient)
	}
	if s := r.Scheduler; s != nil {
		h.scheduler = C.struct_scheduler{
			size: C.uint32_t(unix.SizeofSchedAttr), policy: C.uint32_t(s.Policy), flags: C.uint64_t(s.Flags), nice: C.int32_t(s.Nice), priority: C.uint32_t(s.Priority),
			runtime: C.uint64_t(s.Runtime), deadline: C.uint64_t(s.Deadline), period: C.uint64_t(s.Period), util_min: C.uint32_t(s.Util_min), util_max: C.uint32_t(s.Util_max),
		}
	}
	if r.Personality != nil {
		h.personality = C.uint32_t(*r.Personality)
	}
	if r.MemoryPolicy != nil {
		h.mempolicy = C.int32_t(r.MemoryPolicy.Mode)
	}
}

func encodeLimits(limits []Rlimit) []C.struct_limit {
	out := make([]C.struct_limit, len(limits))
	for i, l := range limits {
		out[i] = C.struct_limit{resource: C.uint32_t(l.Resource), soft: C.uint64_t(l.Soft), hard: C.uint64_t(l.Hard)}
	}
	return out
}

func flagBits(r *Request) uint32 {
	var bits uint32
	for _, f := range [...]struct {
		set bool
		bit uint32
	}{
		{r.Terminal, C.FLAG_TERMINAL},
		{r.Size != Size{}, C.FLAG_WINDOW},
		{r.NoNewPrivs, C.FLAG_NO_NEW_PRIVS},
		{r.Capabilities != nil, C.FLAG_CAPABILITIES},
		{r.Scheduler != nil, C.FLAG_SCHEDULER},
		{r.IOPriority != 0, C.FLAG_IOPRIO},
		{r.Personality != nil, C.FLAG_PERSONALITY},
		{r.MemoryPolicy != nil, C.FLAG_MEMPOLICY},
	} {
		if f.set {
			bits |= f.bit
		}
	}
	return bits
}

// fileBits says which files a request has. files appends them in the order of the bits.
func fileBits(r *Request) uint32 {
	var bits uint32
	if r.Init != nil {
		bits |= C.FILE_INIT
	}
	if r.Cgroup != nil {
		bits |= C.FILE_CGROUP
	}
	for i, f := range r.Stdio {
		if f != nil {
			bits |= C.FILE_STDIN << i
		}
	}
	return bits
}

func files(r *Request, fds []int) []int {
	if r.Init != nil {
		fds = append(fds, int(r.Init.Fd()))
	}
	if r.Cgroup != nil {
		fds = append(fds, int(r.Cgroup.Fd()))
	}
	for _, f := range r.Stdio {
		if f != nil {
			fds = append(fds, int(f.Fd()))
		}
	}
	return fds
}

// check refuses what cannot be put into a message, or means nothing.
func check(r *Request) error {
	switch {
	case len(r.Args) == 0:
		return fmt.Errorf("%w: no arguments", ErrInvalid)
	case r.Cwd != "" && r.Cwd[0] != '/':
		return fmt.Errorf("%w: working directory %q is not absolute", ErrInvalid, r.Cwd)
	case r.Terminal && r.Stdio != [3]*os.File{}:
		return fmt.Errorf("%w: stdio beside a terminal", ErrInvalid)
	case r.OOMScoreAdj < -1000 || r.OOMScoreAdj > 1000:
		return fmt.Errorf("%w: oom score adjustment %d", ErrInvalid, r.OOMScoreAdj)
	case len(r.Seccomp.Program)%unix.SizeofSockFilter != 0:
		return fmt.Errorf("%w: seccomp filter of %d bytes", ErrInvalid, len(r.Seccomp.Program))
	case r.Umask != nil && *r.Umask > 0o777:
		return fmt.Errorf("%w: umask %#o", ErrInvalid, *r.Umask)
	}
	for _, list := range [][]string{r.Args, r.Env, {r.Program, r.Cwd, r.AppArmor, r.SELinux, r.Keyring}} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("%w: %q contains a NUL", ErrInvalid, s)
			}
		}
	}
	return nil
}
