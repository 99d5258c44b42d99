package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// manyContainers is how many one machine runs.
const manyContainers = 200

// containers are running containers of one machine.
type containers struct {
	vm    *vmtest.VM
	inits []*hostclient.Cmd
}

// startContainers starts n of them, some at a time.
func startContainers(ctx context.Context, vm *vmtest.VM, n int) (*containers, error) {
	c := &containers{vm: vm, inits: make([]*hostclient.Cmd, n)}
	var g errgroup.Group
	g.SetLimit(4)
	for i := range n {
		spec := hostclient.DefaultSpec(vmtest.Rootfs, "/bin/sleep", "100000")
		c.inits[i] = vm.Client.NewContainer(fmt.Sprintf("bench-%03d", i), spec).Init(ctx)
		g.Go(c.inits[i].Start)
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, c.delete(ctx))
	}
	return c, nil
}

func (c *containers) delete(ctx context.Context) error {
	var errs []error
	for _, init := range c.inits {
		if init.Process == nil {
			continue // it has not been started
		}
		if _, err := init.Process.ForceDelete(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// statistics is the time of one call that reads what all containers use, as the host sees it, against that of a loop in the guest that reads the same files.
func statistics(ctx context.Context, b *bench, l *lab) (float64, error) {
	c, err := startContainers(ctx, l.VM, manyContainers)
	if err != nil {
		return 0, err
	}
	files, err := c.files(ctx)
	if err != nil {
		return 0, errors.Join(err, c.delete(ctx))
	}
	ratio, err := b.ratioOf(l.runs, "statistics of 200 containers in one call, s, against reading their files",
		func() (float64, error) {
			return l.measure(func() error {
				all, err := l.Client.Statistics(ctx)
				if err == nil && len(all) != manyContainers {
					err = fmt.Errorf("statistics of %d containers, %d exist", len(all), manyContainers)
				}
				return err
			})
		},
		func() (float64, error) { return guestMedian(ctx, l.VM, []byte(files), loadPath, "read") })
	return ratio, errors.Join(err, c.delete(ctx))
}

// files lists the files that statistics are read from, a line each.
func (c *containers) files(ctx context.Context) (string, error) {
	const script = `cd /sys/fs/cgroup/bellhop
for c in bench-*; do
	for f in cpu.stat memory.current memory.peak memory.max memory.swap.current memory.swap.max memory.events memory.stat pids.current pids.max \
		io.stat cpu.pressure memory.pressure io.pressure hugetlb.2MB.current hugetlb.2MB.max hugetlb.2MB.events hugetlb.1GB.current hugetlb.1GB.max hugetlb.1GB.events; do
		test -e $c/$f && echo $PWD/$c/$f
	done
	read pid <$c/cgroup.procs
	echo /proc/$pid/net/dev
done
`
	cmd := c.vm.Client.Command(ctx, busybox, "sh", "-c", script)
	cmd.Env = []string{"PATH=" + busyboxDir}
	out, err := cmd.Output()
	return string(out), err
}
