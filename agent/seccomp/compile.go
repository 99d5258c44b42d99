//go:build linux && cgo && seccomp

package seccomp

import (
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// Compile makes the filter of a profile, with the meaning that libcontainer gives it: system calls newer than the newest one that the filter names fail with ENOSYS, unless it
// allows by default. A nil profile has none. What cannot be had (notify actions) is refused. A rule for a system call that libseccomp does not know is left out, or refused where the call
// would pass without it.
func Compile(profile *specs.LinuxSeccomp) (Filter, error) {
	config, err := specconv.SetupSeccomp(profile)
	if err != nil {
		return Filter{}, fmt.Errorf("cannot make seccomp filter: %w", err)
	}
	if config == nil {
		return Filter{}, nil
	}
	f, err := compile(config)
	if err != nil {
		return Filter{}, fmt.Errorf("cannot make seccomp filter: %w", err)
	}
	if n := len(f.Program) / unix.SizeofSockFilter; n > unix.BPF_MAXINSNS {
		return Filter{}, fmt.Errorf("cannot make seccomp filter: %d instructions, and the kernel takes %d", n, unix.BPF_MAXINSNS)
	}
	return f, nil
}

func compile(config *configs.Seccomp) (Filter, error) {
	if err := refuseNotify(config); err != nil {
		return Filter{}, err
	}
	flags, err := filterFlags(config)
	if err != nil {
		return Filter{}, err
	}
	compiled, err := build(config)
	if err != nil {
		return Filter{}, err
	}
	defer compiled.Release()
	program, err := export(compiled)
	if err != nil {
		return Filter{}, err
	}
	prologue, err := unknownCalls(config)
	if err != nil {
		return Filter{}, err
	}
	return Filter{Flags: flags, Program: append(prologue, program...)}, nil
}

func refuseNotify(config *configs.Seccomp) error {
	if config.DefaultAction == configs.Notify || config.ListenerPath != "" {
		return fmt.Errorf("notify is not supported")
	}
	for _, call := range config.Syscalls {
		if call.Action == configs.Notify {
			return fmt.Errorf("notify is not supported, asked for %s", call.Name)
		}
	}
	return nil
}

// filterFlags are those of seccomp(2). TSYNC means nothing to a process with one thread.
func filterFlags(config *configs.Seccomp) (uint32, error) {
	var bits uint32
	for _, flag := range config.Flags {
		switch string(flag) {
		case "SECCOMP_FILTER_FLAG_TSYNC":
		case "SECCOMP_FILTER_FLAG_LOG":
			bits |= unix.SECCOMP_FILTER_FLAG_LOG
		case "SECCOMP_FILTER_FLAG_SPEC_ALLOW":
			bits |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		default:
			return 0, fmt.Errorf("flag %s is not supported", flag)
		}
	}
	return bits, nil
}

// build makes libseccomp's filter, which the caller releases.
func build(config *configs.Seccomp) (*libseccomp.ScmpFilter, error) {
	standard, err := action(config.DefaultAction, config.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	f, err := libseccomp.NewFilter(standard)
	if err != nil {
		return nil, err
	}
	if err := fill(f, config, standard); err != nil {
		f.Release()
		return nil, err
	}
	return f, nil
}

func fill(f *libseccomp.ScmpFilter, config *configs.Seccomp, standard libseccomp.ScmpAction) error {
	for _, name := range config.Architectures {
		arch, err := libseccomp.GetArchFromString(name)
		if err != nil {
			return err
		}
		if err := f.AddArch(arch); err != nil {
			return fmt.Errorf("architecture %s: %w", name, err)
		}
	}
	if err := f.SetNoNewPrivsBit(false); err != nil {
		return err
	}
	// A binary tree pays from some dozens of rules; libseccomp fails to make one of none.
	const many = 32
	if len(config.Syscalls) > many {
		if err := f.SetOptimize(2); err != nil {
			return err
		}
	}
	for _, call := range config.Syscalls {
		if err := addRule(f, call, standard); err != nil {
			return fmt.Errorf("system call %s: %w", call.Name, err)
		}
	}
	return nil
}

func addRule(f *libseccomp.ScmpFilter, call *configs.Syscall, standard libseccomp.ScmpAction) error {
	do, err := action(call.Action, call.ErrnoRet)
	if err != nil {
		return err
	}
	if do == standard {
		return nil
	}
	number, err := libseccomp.GetSyscallFromName(call.Name)
	if err != nil {
		if passes(standard) && !passes(do) {
			return fmt.Errorf("not known to libseccomp, so that it would pass")
		}
		return nil
	}
	if len(call.Args) == 0 {
		return f.AddRule(number, do)
	}
	conditions, repeated, err := conditions(call.Args)
	if err != nil {
		return err
	}
	if !repeated {
		return f.AddRuleConditional(number, do, conditions)
	}
	// libseccomp takes one condition for each argument in a rule. The runtimes have always made a rule of each condition then, so that any of them matches.
	for _, c := range conditions {
		if err := f.AddRuleConditional(number, do, []libseccomp.ScmpCondition{c}); err != nil {
			return err
		}
	}
	return nil
}

// passes says whether an action lets the system call happen.
func passes(a libseccomp.ScmpAction) bool { return a == libseccomp.ActAllow || a == libseccomp.ActLog }

// conditions also says whether an argument occurs repeatedly.
func conditions(args []*configs.Arg) (list []libseccomp.ScmpCondition, repeated bool, err error) {
	var seen uint64
	for _, arg := range args {
		op, ok := operators[arg.Op]
		if !ok || arg.Index > 5 {
			return nil, false, fmt.Errorf("condition %+v is not valid", *arg)
		}
		c, err := libseccomp.MakeCondition(arg.Index, op, arg.Value, arg.ValueTwo)
		if err != nil {
			return nil, false, err
		}
		repeated = repeated || seen>>arg.Index&1 != 0
		seen |= 1 << arg.Index
		list = append(list, c)
	}
	return list, repeated, nil
}

var operators = map[configs.Operator]libseccomp.ScmpCompareOp{
	configs.EqualTo:              libseccomp.CompareEqual,
	configs.NotEqualTo:           libseccomp.CompareNotEqual,
	configs.GreaterThan:          libseccomp.CompareGreater,
	configs.GreaterThanOrEqualTo: libseccomp.CompareGreaterEqual,
	configs.LessThan:             libseccomp.CompareLess,
	configs.LessThanOrEqualTo:    libseccomp.CompareLessOrEqual,
	configs.MaskEqualTo:          libseccomp.CompareMaskedEqual,
}

// action gives libseccomp's action. EPERM is what errno and trace return when the spec names no other.
func action(a configs.Action, errno *uint) (libseccomp.ScmpAction, error) {
	code := int16(unix.EPERM)
	if errno != nil {
		code = int16(*errno)
	}
	switch a {
	case configs.Kill, configs.KillThread:
		return libseccomp.ActKillThread, nil
	case configs.KillProcess:
		return libseccomp.ActKillProcess, nil
	case configs.Errno:
		return libseccomp.ActErrno.SetReturnCode(code), nil
	case configs.Trace:
		return libseccomp.ActTrace.SetReturnCode(code), nil
	case configs.Trap:
		return libseccomp.ActTrap, nil
	case configs.Allow:
		return libseccomp.ActAllow, nil
	case configs.Log:
		return libseccomp.ActLog, nil
	}
	return libseccomp.ActInvalid, fmt.Errorf("action %d is not supported", a)
}

// export gives the program of a filter. The older libseccomps write it to a file only.
func export(f *libseccomp.ScmpFilter) ([]byte, error) {
	fd, err := unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	memory := os.NewFile(uintptr(fd), "seccomp")
	defer memory.Close()
	if err := f.ExportBPF(memory); err != nil {
		return nil, err
	}
	if _, err := memory.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(memory)
}
