package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/term"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// run boots a machine, runs the process, and returns the code to exit with. cancel ends ctx and everything below it.
func run(ctx context.Context, cancel context.CancelCauseFunc, cfg *config) (int, error) {
	signals := watchSignals(cancel)
	defer signals.stop()
	var times timeline

	m, err := boot(ctx, cfg, &times)
	if err != nil {
		return failure(ctx, err), err
	}
	defer m.close()
	rootfs, err := m.client.PrepareRootfs(ctx, hostclient.Rootfs{ID: "run", Whole: &hostclient.FileSystem{Source: "/dev/vda", Type: "ext4"}})
	if err != nil {
		return failure(ctx, err), err
	}
	code, err := runProcess(ctx, m, cfg, rootfs.Path, signals, &times)
	if ctx.Err() != nil {
		return failure(ctx, err), err
	}
	if cfg.timeline && err == nil {
		times.print(cfg.stderr, m)
	}
	return code, err
}

// failure is the exit code of an error: that of the signal that ended ctx, or Bellhop's own.
func failure(ctx context.Context, err error) int {
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		return 128 + int(s.signal)
	}
	return hostclient.ShellCode(err)
}

// runProcess runs the container's process from its creation to its drained output.
func runProcess(ctx context.Context, m *machine, cfg *config, rootfs string, signals *signals, times *timeline) (int, error) {
	pc, err := processConfig(cfg, rootfs, times)
	if err != nil {
		return exitFailure, err
	}
	restore, err := m.terminal(cfg, pc.Spec.Process)
	if err != nil {
		return exitFailure, err
	}
	defer restore()

	p, err := m.client.NewProcess(pc)
	if err != nil {
		return exitFailure, err
	}
	if err := p.Create(ctx); err != nil {
		return hostclient.ShellCode(err), err
	}
	times.mark("created")
	if err := p.Start(ctx); err != nil {
		return hostclient.ShellCode(err), err
	}
	times.mark("started")

	stop := signals.forward(ctx, p, cfg)
	defer stop()
	status, err := p.Wait(ctx)
	if err != nil {
		if cause := m.endOf(ctx); cause != nil {
			err = cause
		}
		if !status.ExitedAt.IsZero() {
			return status.ExitCode(), err // the status is known; a reader or writer of ours failed
		}
		return exitFailure, err
	}
	times.mark("exited and drained")
	return status.ExitCode(), nil
}

// processConfig describes the container. Its output goes through times, which marks the first byte.
func processConfig(cfg *config, rootfs string, times *timeline) (hostclient.ProcessConfig, error) {
	spec := hostclient.DefaultSpec(rootfs, cfg.argv...)
	spec.Root.Readonly = cfg.readOnly
	uid, gid, err := parseUser(cfg.user)
	if err != nil {
		return hostclient.ProcessConfig{}, err
	}
	spec.Process.User = specs.User{UID: uid, GID: gid}
	spec.Process.Cwd = cfg.cwd
	spec.Process.Terminal = cfg.terminal
	spec.Process.Env = environment(spec.Process.Env, cfg)

	pc := hostclient.ProcessConfig{ID: "run", Spec: spec, Stdout: times.first(cfg.stdout)}
	if cfg.init {
		pc.BuiltIn = hostclient.BuiltInInit
	}
	if cfg.interactive {
		pc.Stdin = cfg.stdin
	}
	if !cfg.terminal {
		pc.Stderr = times.first(cfg.stderr)
	}
	return pc, nil
}

// environment adds to the default what --tty and --env say; the last of a name wins.
func environment(env []string, cfg *config) []string {
	env = append(env, "HOME=/root")
	if t := os.Getenv("TERM"); cfg.terminal && t != "" {
		env = append(env, "TERM="+t)
	}
	var out []string
	seen := map[string]int{}
	for _, e := range append(env, cfg.env...) {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := seen[name]; ok {
			out[i] = e
			continue
		}
		seen[name] = len(out)
		out = append(out, e)
	}
	return out
}

// terminal prepares for --tty: the process's terminal gets the size of the user's, which becomes raw if it is the process's input. The returned function
// undoes that.
func (m *machine) terminal(cfg *config, p *specs.Process) (restore func(), err error) {
	fd := int(cfg.stdin.Fd())
	if !cfg.terminal || !term.IsTerminal(fd) {
		return func() {}, nil
	}
	columns, rows, err := term.GetSize(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot get the terminal's size: %w", err)
	}
	p.ConsoleSize = &specs.Box{Width: uint(columns), Height: uint(rows)}
	if !cfg.interactive {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot make the terminal raw: %w", err)
	}
	return func() { _ = term.Restore(fd, old) }, nil
}
