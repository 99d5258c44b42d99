//go:build linux

package container

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// watchProgram makes the agent look for the program and the working directory in the container's root, when its mounts stand and the hooks have run.
// Libcontainer looks too, but its error comes from another process as text only. The result is set when the container is refused.
func watchProgram(cfg *configs.Config, req *Request) *error {
	var refusal error
	check := func(s *specs.State) error {
		refusal = checkProgram(s.Pid, cfg.Rootfs, req)
		return refusal
	}
	cfg.Hooks[configs.CreateRuntime] = append(cfg.Hooks[configs.CreateRuntime], configs.NewFunctionHook(check))
	return &refusal
}

// checkProgram looks through the mount namespace of libcontainer's init, which has not changed its root yet.
func checkProgram(pid int, root string, req *Request) error {
	p := req.Spec.Process
	outer, err := rootfs.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return err
	}
	defer outer.Close()
	dir, err := outer.Sub(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	if st, err := dir.Stat(p.Cwd); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return failure.Field("process.cwd", "%s is not a directory", p.Cwd)
	}
	if req.BuiltIn == pb.BuiltIn_BUILT_IN_PAUSE {
		return nil
	}
	return execError(p.Args[0], dir.FindProgram(p.Args[0], p.Env, p.Cwd))
}

// execError gives the errno of a program that cannot be executed its code: what a shell answers with 127 is NOT_FOUND, with 126 PERMISSION_DENIED.
func execError(program string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	return failure.Step(failure.Exec(errno), "exec %s", program)
}

// reported reads what Init's os.Stderr was told of a failed execve. It is the text of this same binary, so its end is the text of an errno that this
// process knows. A built-in init says "errno N".
func reported(program, text string) error {
	if n, err := strconv.ParseUint(strings.TrimPrefix(text, "errno "), 10, 16); err == nil {
		return execError(program, syscall.Errno(n))
	}
	if !strings.HasPrefix(text, "exec ") { // a startContainer hook's failure, which may end in anything
		return failure.New(errdefs.ErrUnknown, "%s", text)
	}
	for _, errno := range []syscall.Errno{
		unix.ENOENT, unix.EACCES, unix.ENOEXEC, unix.EPERM, unix.ENOTDIR, unix.ELOOP, unix.EISDIR, unix.ETXTBSY, unix.E2BIG, unix.ENOMEM,
		unix.EINVAL, unix.EIO, unix.ELIBBAD, unix.ENAMETOOLONG, unix.EAGAIN,
	} {
		if strings.HasSuffix(text, errno.Error()) {
			return execError(program, errno)
		}
	}
	return failure.Step(failure.New(errdefs.ErrUnknown, "%s", text), "exec %s", program)
}
