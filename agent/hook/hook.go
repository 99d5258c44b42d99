//go:build linux

// Package hook runs a container's hooks in the agent's own namespaces, outside its protection: like every process that the agent starts, a hook has neither the agent's OOM score nor its limits.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/capture"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// defaultTimeout is that of a hook whose spec sets none: one that hangs would keep the container's id for ever.
const defaultTimeout = time.Minute

// Spawner forks processes: a *nursery.Nursery.
type Spawner interface {
	Spawn(ctx context.Context, req *nursery.Request) (*nursery.Child, error)
}

// Timeout is how long a hook may take.
func Timeout(h specs.Hook) time.Duration {
	if h.Timeout == nil {
		return defaultTimeout
	}
	return time.Duration(*h.Timeout) * time.Second
}

// Run runs a hook with the state on its stdin. Its environment is what the spec says and nothing else. When its time is up or ctx ends, it is killed. What it leaves behind lives on.
func Run(ctx context.Context, s Spawner, h specs.Hook, state *specs.State) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout(h))
	defer cancel()
	input, err := stateFile(state)
	if err != nil {
		return failure.Step(err, "hook %s", h.Path)
	}
	defer input.Close()
	output, err := capture.New()
	if err != nil {
		return failure.Step(err, "hook %s", h.Path)
	}
	err = run(ctx, s, &nursery.Request{
		Program: h.Path, Args: arguments(h), Env: h.Env,
		Stdio: [3]*os.File{input, output.Write, output.Write},
	})
	text := bytes.TrimSpace(output.Finish())
	if errors.Is(err, context.DeadlineExceeded) {
		err = failure.New(context.DeadlineExceeded, "it took longer than %v", Timeout(h))
	}
	if err != nil && len(text) > 0 {
		err = fmt.Errorf("%w, output %.1024q", err, text)
	}
	return failure.Step(err, "hook %s", h.Path)
}

func arguments(h specs.Hook) []string {
	if len(h.Args) > 0 {
		return h.Args
	}
	return []string{h.Path}
}

// stateFile makes a file of the state's JSON.
func stateFile(state *specs.State) (*os.File, error) {
	text, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the state: %w", err)
	}
	fd, err := unix.MemfdCreate("state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	if _, err := f.WriteAt(text, 0); err != nil { // the offset stays at the beginning
		f.Close()
		return nil, err
	}
	return f, nil
}

// run runs a process to its end.
func run(ctx context.Context, s Spawner, req *nursery.Request) error {
	child, err := s.Spawn(ctx, req)
	if err != nil {
		return err
	}
	defer child.PIDFD.Close()
	select {
	case status := <-child.Exited:
		return ended(status)
	case <-ctx.Done():
		_ = pidfd.Signal(child.PIDFD, unix.SIGKILL)
		<-child.Exited
		return context.Cause(ctx)
	}
}

func ended(s pidfd.Status) error {
	switch {
	case s.Err != nil:
		return s.Err
	case s.Signal != 0:
		return failure.New(errdefs.ErrAborted, "killed by signal %d", s.Signal)
	case s.Code != 0:
		return failure.New(errdefs.ErrAborted, "exit status %d", s.Code)
	}
	return nil
}
