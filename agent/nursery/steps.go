//go:build linux

package nursery

// The steps of an [ExecError], in the order in which the child takes them. Their numbers on the wire are those of enum step in request.h.
const (
	StepRequest      = "read request"
	StepPIDNamespace = "join pid namespace"
	StepOOMScore     = "set oom score"
	StepFork         = "fork into cgroup"
	StepStdio        = "set stdio"
	StepRlimit       = "set limit"
	StepScheduler    = "set scheduler"
	StepIOPriority   = "set io priority"
	StepAffinity     = "set cpu affinity"
	StepLabel        = "set security label"
	StepNamespaces   = "join namespaces"
	StepBecomeRoot   = "become root of the user namespace"
	StepSession      = "make session"
	StepKeyring      = "join session keyring"
	StepTerminal     = "make terminal"
	StepNoNewPrivs   = "set no_new_privs"
	StepPersonality  = "set personality"
	StepMemoryPolicy = "set memory policy"
	StepCwd          = "change directory to"
	StepSeccomp      = "set seccomp filter"
	StepBounding     = "drop bounding capabilities"
	StepOwner        = "change owner of stdio"
	StepGroups       = "set groups"
	StepGID          = "set gid"
	StepUID          = "set uid"
	StepCwdOutside   = "stay inside the container with directory"
	StepCapabilities = "set capabilities"
	StepExec         = "exec"
)

// stepNames maps the numbers of enum step to names. Keep both in the same order.
var stepNames = [...]string{
	1: StepRequest, StepPIDNamespace, StepOOMScore, StepFork, StepStdio, StepRlimit, StepScheduler, StepIOPriority, StepAffinity, StepLabel, StepNamespaces, StepBecomeRoot,
	StepSession, StepKeyring, StepTerminal, StepNoNewPrivs, StepPersonality, StepMemoryPolicy, StepCwd, StepSeccomp, StepBounding, StepOwner, StepGroups, StepGID, StepUID,
	StepCwdOutside, StepCapabilities, StepExec,
}

// stepName names a step that came from a process which a container may have got at, hence any number.
func stepName(n uint32) string {
	if n == 0 || n >= uint32(len(stepNames)) {
		return "unknown step"
	}
	return stepNames[n]
}
