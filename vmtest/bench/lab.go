package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// lab is a machine for the figures of execs and containers, with all that they are compared with, and the clock that they are measured by.
type lab struct {
	*vmtest.VM
	clock
	runs int // of each side of a figure
}

// countedRuns are enough where instructions are counted: such a figure hardly differs from run to run.
const countedRuns = 2

// lab boots one of the two labs when it is first needed. In the counted one the clock counts instructions.
func (b *bench) lab(ctx context.Context, counted bool) (*lab, error) {
	if l := b.labs[counted]; l != nil {
		return l, nil
	}
	files, err := b.labFiles(ctx)
	if err != nil {
		return nil, err
	}
	vm, err := vmtest.Boot(ctx, vmtest.Busybox(), vmtest.Memory(1<<30), vmtest.Tree("build/runtimes", "/"), vmtest.Files(files...),
		vmtest.Machine(func(c *vmm.Config) { c.CountInstructions = counted }))
	if err != nil {
		return nil, err
	}
	l := &lab{VM: vm, clock: wallClock{vm}, runs: b.runs}
	if counted {
		l.runs = min(b.runs, countedRuns)
		if l.clock, err = newGuestClock(ctx, vm); err != nil {
			vm.Close()
			return nil, err
		}
	}
	b.labs[counted] = l
	return l, nil
}

// labFiles builds programs: the load, the plain fork, the nursery's tests with its benchmarks, libcontainer alone, and runc.
func (b *bench) labFiles(ctx context.Context) ([]initramfs.File, error) {
	load, err := b.compile(ctx, "load", "vmtest/bench/load/load.c")
	if err != nil {
		return nil, err
	}
	forks, tests, baseline := filepath.Join(b.dir, "forks"), filepath.Join(b.dir, "nursery.test"), filepath.Join(b.dir, "baseline-libcontainer")
	err = errors.Join(
		vmtest.BuildStatic(ctx, forks, "build", "./vmtest/bench/forks"),
		vmtest.BuildStatic(ctx, tests, "test", "-c", "./agent/nursery"),
		vmtest.BuildStatic(ctx, baseline, "build", "./agent/container/baseline"),
		installRunc(ctx, b.dir))
	if err != nil {
		return nil, err
	}
	files := []initramfs.File{{Path: "/bin", Content: []byte(busyboxDir), Mode: os.ModeSymlink}}
	for path, source := range map[string]string{loadPath: load, forksPath: forks, nurseryPath: tests, baselinePath: baseline, newestRunc: filepath.Join(b.dir, "runc")} {
		files = append(files, initramfs.File{Path: path, Source: source, Mode: 0o755})
	}
	return files, nil
}

// installRunc builds the newest runc into a directory: the command of the module that the agent has libcontainer from.
func installRunc(ctx context.Context, dir string) error {
	const module = "github.com/opencontainers/runc"
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		return fmt.Errorf("cannot tell the version of runc: %w", err)
	}
	install := exec.CommandContext(ctx, "go", "install", "-tags", "netgo osusergo runc_nocriu seccomp", "-ldflags", `-s -w -linkmode external -extldflags "-static"`,
		module+"@"+strings.TrimSpace(string(version)))
	install.Env = append(os.Environ(), "CGO_ENABLED=1", "GOBIN="+dir)
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build runc: %w: %s", err, out)
	}
	return nil
}
