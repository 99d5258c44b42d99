//go:build linux

package nursery

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seccomp"
)

// A Request says what to start. The zero value of a field means that nothing is asked for, unless it says otherwise. Files are borrowed until Spawn returns.
type Request struct {
	Init   *os.File // pidfd of the init of the container whose namespaces are joined; nil: the agent's own namespaces
	Cgroup *os.File // directory of a cgroup v2, may be O_PATH; nil: Config.Cgroup

	// Stdio are stdin, stdout and stderr; nil: /dev/null. They become blocking files (as by os.File.Fd), for the process shares the open file. With Terminal they must be nil.
	Stdio    [3]*os.File
	Terminal bool // all three are a new terminal of the container's devpts; its master is Child.Master
	Size     Size // of the terminal; zero: not set

	Program string   // path of the program; empty: Args[0], looked up in the PATH of Env when it contains no slash
	Args    []string // at least one
	Env     []string // "NAME=value", used as it is; nothing is added
	Cwd     string   // absolute, in the container; created (mode 0755, owner root) if missing. Empty: the root

	UID, GID uint32   // in the container's user namespace
	Groups   []uint32 // the supplementary groups; there are no others
	Umask    *uint32  // nil: 022

	Capabilities *Capabilities // nil: as setuid(2) and execve(2) leave them for the agent's
	NoNewPrivs   bool
	Seccomp      seccomp.Filter

	Rlimits     []Rlimit // others are Config.Rlimits
	OOMScoreAdj int      // -1000 to 1000; never inherited from the agent

	Scheduler    *unix.SchedAttr
	IOPriority   uint16       // class<<13 | priority, as ioprio_set(2) takes it
	Affinity     *unix.CPUSet // nil: all CPUs of the cgroup
	Personality  *uint32      // execution domain, personality(2)
	MemoryPolicy *MemoryPolicy
	AppArmor     string // profile to change to at execve
	SELinux      string // label of the process
	Keyring      string // name of the session keyring to join or to make; empty: the agent's is kept
}

// Size is a terminal's size in characters.
type Size struct{ Columns, Rows uint16 }

// Capabilities are five sets, in which bit n is capability n of capabilities(7). Ambient ones that cannot be raised are left out, as runc does.
type Capabilities struct {
	Bounding, Effective, Inheritable, Permitted, Ambient uint64
}

// Rlimit is one resource limit, setrlimit(2).
type Rlimit struct {
	Resource   int // unix.RLIMIT_*
	Soft, Hard uint64
}

// MemoryPolicy is a NUMA policy, set_mempolicy(2).
type MemoryPolicy struct {
	Mode  int // MPOL_* with its flags
	Nodes *unix.CPUSet
}
