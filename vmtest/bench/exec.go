package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
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

// labFigures compare execs and containers with what they cost otherwise: in wall time, or counted, in instructions of the guest.
func labFigures(counted bool) []figure {
	mark := ""
	if counted {
		mark = "-icount"
	}
	in := func(name, limit string, measure func(context.Context, *bench, *lab) (float64, error)) figure {
		return figure{name + mark, limit, func(ctx context.Context, b *bench) (float64, error) {
			l, err := b.lab(ctx, counted)
			if err != nil {
				return 0, err
			}
			return measure(ctx, b, l)
		}}
	}
	return []figure{
		in("exec-agent", "<=1.5", execAgent),
		in("exec-host", "<=3", execHost),
		in("exec-runc", "<=0.1", execRunc(debianRunc)),
		in("exec-runc-newest", "<=0.1", execRunc(newestRunc)),
		in("exec-parallel", "<=1.2", execParallel),
		in("container", "<=1.1", containerLife),
		in("statistics", "<=2", statistics),
	}
}

// execAgent is the nursery's own benchmark: a process in a container against fork, exec and wait of the same program, both by one Go program in the guest.
func execAgent(ctx context.Context, b *bench, l *lab) (float64, error) {
	return b.benchmark(ctx, l.VM, "BenchmarkExec/container/1$")
}

// execParallel is the same for 8 processes at once in one container, each, against one alone. Where instructions are counted there is one CPU: it then says what work they save or cost
// each other, and nothing of how they share CPUs.
func execParallel(ctx context.Context, b *bench, l *lab) (float64, error) {
	return b.benchmark(ctx, l.VM, "BenchmarkParallel$")
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

// execHost is an exec as the host sees it, from one call to the end of its output, against the fork of a Go program in the guest and three round trips on the device. Where instructions
// are counted these are the guest's, from the call to the end, and those of a round trip.
func execHost(ctx context.Context, b *bench, l *lab) (float64, error) {
	stop, err := holdContainer(ctx, l.VM, "")
	if err != nil {
		return 0, err
	}
	defer stop()
	return b.ratioOf(l.runs, "exec, s, against a fork and three round trips",
		func() (float64, error) { return execTrip(ctx, l) },
		func() (float64, error) {
			plain, err := guestMedian(ctx, l.VM, nil, forksPath, strconv.Itoa(execCount), busybox, "true")
			if err != nil {
				return 0, err
			}
			trip, err := l.trip(ctx)
			return plain + 3*trip, err
		})
}

// execRunc is the same against runc's own exec in the guest.
func execRunc(runc string) func(context.Context, *bench, *lab) (float64, error) {
	return func(ctx context.Context, b *bench, l *lab) (float64, error) {
		stop, err := holdContainer(ctx, l.VM, "")
		if err != nil {
			return 0, err
		}
		defer stop()
		stopRunc, err := holdContainer(ctx, l.VM, runc)
		if err != nil {
			return 0, err
		}
		defer stopRunc()
		command := fmt.Sprintf("exec %s %d %s --root %s exec %s /bin/true", forksPath, runcCount, runc, runcState, containerName(runc))
		return b.ratioOf(l.runs, "exec, s, against "+runc+" exec",
			func() (float64, error) { return execTrip(ctx, l) },
			func() (float64, error) { return guestMedian(ctx, l.VM, nil, busybox, "sh", "-c", command) })
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
func execTrip(ctx context.Context, l *lab) (float64, error) {
	return medianOf(execCount, func() (float64, error) { return execOnce(ctx, l) })
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

func execOnce(ctx context.Context, l *lab) (float64, error) {
	p, err := l.Client.NewProcess(hostclient.ProcessConfig{
		Container: containerName(""), Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", Env: []string{"PATH=/bin"}}, Stdout: io.Discard,
	})
	if err != nil {
		return 0, err
	}
	took, err := l.measure(func() error {
		if err := p.Launch(ctx); err != nil {
			return err
		}
		status, err := p.Wait(ctx)
		if err == nil && status.Code != 0 {
			err = fmt.Errorf("the exec ended with %v", status)
		}
		return err
	})
	return took, errors.Join(err, p.Delete(ctx))
}

// containerLife is a container of one short process from creation to deletion, as the host sees it, against libcontainer alone in the guest.
func containerLife(ctx context.Context, b *bench, l *lab) (float64, error) {
	spec := hostclient.DefaultSpec(vmtest.Rootfs, "/bin/true")
	config, err := json.Marshal(spec)
	if err != nil {
		return 0, err
	}
	return b.ratioOf(l.runs, "container from creation to deletion, s, against libcontainer alone",
		func() (float64, error) {
			return medianOf(containerCount, func() (float64, error) { return lifeOnce(ctx, l, spec) })
		},
		func() (float64, error) {
			return guestMedian(ctx, l.VM, config, baselinePath, strconv.Itoa(containerCount))
		})
}

func lifeOnce(ctx context.Context, l *lab, spec *specs.Spec) (float64, error) {
	p, err := l.Client.NewProcess(hostclient.ProcessConfig{Spec: spec, Stdout: io.Discard})
	if err != nil {
		return 0, err
	}
	return l.measure(func() error {
		if err := p.Launch(ctx); err != nil {
			return err
		}
		_, err := p.Wait(ctx)
		return errors.Join(err, p.Delete(ctx))
	})
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
