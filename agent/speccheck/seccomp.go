//go:build linux

package speccheck

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// checkSeccomp refuses notification, for which there is no one to notify, and what libcontainer ignores or cuts.
func checkSeccomp(s *specs.LinuxSeccomp) error {
	const at = "linux.seccomp"
	if err := firstBroken(
		rule{s.DefaultAction == "", at + ".defaultAction", "missing"},
		rule{s.DefaultAction == specs.ActNotify, at + ".defaultAction", "notification is not supported"},
		rule{s.ListenerPath != "", at + ".listenerPath", "notification is not supported"},
		rule{s.ListenerMetadata != "", at + ".listenerMetadata", "notification is not supported"},
	); err != nil {
		return err
	}
	for _, flag := range s.Flags {
		if flag == specs.LinuxSeccompFlagWaitKillableRecv {
			return failure.Field(at+".flags", "%s is for notification, which is not supported", flag)
		}
	}
	if err := checkErrno(at+".defaultErrnoRet", s.DefaultAction, s.DefaultErrnoRet); err != nil {
		return err
	}
	for i, call := range s.Syscalls {
		if err := checkCall(fmt.Sprintf(at+".syscalls[%d]", i), call); err != nil {
			return err
		}
	}
	return nil
}

func checkCall(field string, call specs.LinuxSyscall) error {
	if err := firstBroken(
		rule{call.Action == specs.ActNotify, field + ".action", "notification is not supported"},
		rule{len(call.Names) == 0, field + ".names", "missing"},
	); err != nil {
		return err
	}
	for i, arg := range call.Args {
		if err := firstBroken(
			rule{arg.Index > 5, fmt.Sprintf("%s.args[%d].index", field, i), "must be 0 to 5"},
			rule{arg.ValueTwo != 0 && arg.Op != specs.OpMaskedEqual, fmt.Sprintf("%s.args[%d].valueTwo", field, i), "is for SCMP_CMP_MASKED_EQ"},
		); err != nil {
			return err
		}
	}
	return checkErrno(field+".errnoRet", call.Action, call.ErrnoRet)
}

// maxErrno is the kernel's MAX_ERRNO; the data of SECCOMP_RET_TRACE is kept in what an int16 holds.
const (
	maxErrno = 4095
	maxTrace = 1<<15 - 1
)

// checkErrno refuses a value for an action that returns none, as the runtime-spec demands, or one that would be cut.
func checkErrno(field string, action specs.LinuxSeccompAction, value *uint) error {
	if value == nil {
		return nil
	}
	switch {
	case action != specs.ActErrno && action != specs.ActTrace:
		return failure.Field(field, "%s returns no errno", action)
	case action == specs.ActErrno && *value > maxErrno:
		return failure.Field(field, "%d, at most %d", *value, maxErrno)
	case *value > maxTrace:
		return failure.Field(field, "%d, at most %d", *value, maxTrace)
	}
	return nil
}
