package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmtest"
)

const (
	forksPath    = "/bench/forks"
	nurseryPath  = "/bench/nursery.test"
	debianRunc   = "/usr/sbin/runc"
	newestRunc   = "/bench/runc" // of the module that the agent has libcontainer from
	baselinePath = "/bench/baseline"
	runcState    = "/run/bellhop/runtimes/*/state" // where the agent lets runc keep its containers

	execCount      = 100
	runcCount      = 7
	containerCount = 15
)

// execFigures compare an exec in a running container with what a process costs otherwise.
func execFigures() []figure {
	in := func(measure func(context.Context, *bench, *vmtest.VM) (float64, error)) func(context.Context, *bench) (float64, error) {
		return func(ctx context.Context, b *bench) (float64, error) {
			vm, err := b.execMachine(ctx)
			if err != nil {
				return 0, err
			}
			return measure(ctx, b, vm)
		}
	}
	return []figure{
		{"exec-agent", "<=1.5", in(execAgent)},
		{"exec-host", "<=3", in(execHost)},
		{"exec-runc", "<=0.1", in(execRunc(debianRunc))},
		{"exec-runc-newest", "<=0.1", in(execRunc(newestRunc))},
		{"exec-parallel", "<=1.2", in(execParallel)},
		{"container", "<=1.1", in(containerLife)},
	}
}

// execMachine boots the machine of these figures when it is first needed. It has runc, and the tests of the nursery with its benchmarks.
func (b *bench) execMachine(ctx context.Context) (*vmtest.VM, error) {
	if b.execVM != nil {
		return b.execVM, nil
	}
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
	vm, err := vmtest.Boot(ctx, vmtest.Busybox(), vmtest.Memory(1<<30), vmtest.Tree("build/runtimes", "/"), vmtest.Files(
		initramfs.File{Path: loadPath, Source: load, Mode: 0o755}, initramfs.File{Path: forksPath, Source: forks, Mode: 0o755},
		initramfs.File{Path: newestRunc, Source: filepath.Join(b.dir, "runc"), Mode: 0o755}, initramfs.File{Path: nurseryPath, Source: tests, Mode: 0o755}, initramfs.File{Path: baselinePath, Source: baseline, Mode: 0o755}, initramfs.File{Path: "/bin", Content: []byte(busyboxDir), Mode: os.ModeSymlink},
	))
	if err != nil {
		return nil, err
	}
	b.execVM = vm
	return vm, nil
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

// execAgent is the nursery's own benchmark: a process in a container against fork, exec and wait of the same program, both by one Go program in the guest.
func execAgent(ctx context.Context, b *bench, vm *vmtest.VM) (float64, error) {
	return b.benchmark(ctx, vm, "BenchmarkExec/container/1$")
}

// execParallel is the same for 8 processes at once in one container, each, against one alone.
func execParallel(ctx context.Context, b *bench, vm *vmtest.VM) (float64, error) {
	return b.benchmark(ctx, vm, "BenchmarkParallel$")
}

// benchmark runs a Go benchmark in the guest and gives its metric "ratio".
func (b *bench) benchmark(ctx context.Context, vm *vmtest.VM, name string) (float64, error) {
	cmd := vm.Client.Command(ctx, nurseryPath, "-test.run=^$", "-test.bench="+name, fmt.Sprintf("-test.benchtime=%dx", execCount))
	cmd.Env = []string{"BELLHOP_IN_GUEST=1", "PATH=" + busyboxDir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Benchmark") {
			fmt.Fprintf(b.log, "bench: %s\n", strings.Join(fields, " "))
			for i, f := range fields {
				if f == "ratio" {
					return strconv.ParseFloat(fields[i-1], 64)
				}
			}
		}
	}
	return 0, fmt.Errorf("no ratio in %q", out)
}

// execHost is an exec as the host sees it, from one call to the end of its output, against the fork of a Go program in the guest and three round trips on the device.
func execHost(ctx context.Context, b *bench, vm *vmtest.VM) (float64, error) {
	stop, err := holdContainer(ctx, vm, "")
	if err != nil {
		return 0, err
	}
	defer stop()
	return b.ratio("exec, s, against a fork and three round trips",
		func() (float64, error) { return execTrip(ctx, vm) },
		func() (float64, error) {
			plain, err := guestMedian(ctx, vm, nil, forksPath, strconv.Itoa(execCount), busybox, "true")
			if err != nil {
				return 0, err
			}
			trip, err := rawPingPong(ctx, vm, 1)
			return plain + 3*trip, err
		})
}

// execRunc is the same against runc's own exec in the guest.
func execRunc(runc string) func(context.Context, *bench, *vmtest.VM) (float64, error) {
	return func(ctx context.Context, b *bench, vm *vmtest.VM) (float64, error) {
		stop, err := holdContainer(ctx, vm, "")
		if err != nil {
			return 0, err
		}
		defer stop()
		stopRunc, err := holdContainer(ctx, vm, runc)
		if err != nil {
			return 0, err
		}
		defer stopRunc()
		command := fmt.Sprintf("exec %s %d %s --root %s exec %s /bin/true", forksPath, runcCount, runc, runcState, containerName(runc))
		return b.ratio("exec, s, against "+runc+" exec",
			func() (float64, error) { return execTrip(ctx, vm) },
			func() (float64, error) { return guestMedian(ctx, vm, nil, busybox, "sh", "-c", command) })
	}
}

func containerName(runtime string) string { return "bench" + filepath.Base(runtime) }

// holdContainer starts a container that only waits. The caller ends it.
func holdContainer(ctx context.Context, vm *vmtest.VM, runtime string) (stop func(), err error) {
	p, err := vm.Client.NewProcess(hostclient.ProcessConfig{
		ID: containerName(runtime), Spec: hostclient.DefaultSpec(vmtest.Rootfs, "/bin/sleep", "100000"), ExternalRuntime: runtime,
	})
	if err != nil {
		return nil, err
	}
	if err := p.Launch(ctx); err != nil {
		return nil, err
	}
	return func() { _, _ = p.ForceDelete(context.WithoutCancel(ctx)) }, nil
}

// execTrip is the median time of an exec, its output connected, until it has ended and the output with it. What comes before and after, such as the delete, is not in it.
func execTrip(ctx context.Context, vm *vmtest.VM) (float64, error) {
	return medianOf(execCount, func() (float64, error) { return execOnce(ctx, vm) })
}

func medianOf(count int, measure func() (float64, error)) (float64, error) {
	times := make([]float64, count)
	for i := range times {
		var err error
		if times[i], err = measure(); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

func execOnce(ctx context.Context, vm *vmtest.VM) (float64, error) {
	p, err := vm.Client.NewProcess(hostclient.ProcessConfig{
		Container: containerName(""), Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", Env: []string{"PATH=/bin"}}, Stdout: io.Discard,
	})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := p.Launch(ctx); err != nil {
		return 0, err
	}
	status, err := p.Wait(ctx)
	took := time.Since(start).Seconds()
	if err == nil && status.Code != 0 {
		err = fmt.Errorf("the exec ended with %v", status)
	}
	return took, errors.Join(err, p.Delete(ctx))
}

// containerLife is a container of one short process from creation to deletion, as the host sees it, against libcontainer alone in the guest.
func containerLife(ctx context.Context, b *bench, vm *vmtest.VM) (float64, error) {
	spec := hostclient.DefaultSpec(vmtest.Rootfs, "/bin/true")
	config, err := json.Marshal(spec)
	if err != nil {
		return 0, err
	}
	return b.ratio("container from creation to deletion, s, against libcontainer alone",
		func() (float64, error) {
			return medianOf(containerCount, func() (float64, error) { return lifeOnce(ctx, vm, spec) })
		},
		func() (float64, error) {
			return guestMedian(ctx, vm, config, baselinePath, strconv.Itoa(containerCount))
		})
}

func lifeOnce(ctx context.Context, vm *vmtest.VM, spec *specs.Spec) (float64, error) {
	p, err := vm.Client.NewProcess(hostclient.ProcessConfig{Spec: spec, Stdout: io.Discard})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := p.Launch(ctx); err != nil {
		return 0, err
	}
	_, err = p.Wait(ctx)
	err = errors.Join(err, p.Delete(ctx))
	return time.Since(start).Seconds(), err
}

// guestMedian runs a program in the guest that measures and prints nanoseconds, and gives seconds.
func guestMedian(ctx context.Context, vm *vmtest.VM, stdin []byte, program string, args ...string) (float64, error) {
	cmd := vm.Client.Command(ctx, program, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/bin"}
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return time.Duration(ns).Seconds(), err
}
