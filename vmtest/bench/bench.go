package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// Where the benchmark's machine has its program.
const (
	loadPath = "/bench/load"
	rawPath  = "/bench/raw"
	busybox  = vmtest.Rootfs + "/bin/busybox"
)

// bench is what the figures share: one machine, booted when first needed.
type bench struct {
	runs int
	log  io.Writer

	dir  string // for built programs
	vm   *vmtest.VM
	labs map[bool]*lab // by whether they count instructions
}

func (b *bench) close() {
	if b.vm != nil {
		b.vm.Close()
	}
	for _, l := range b.labs {
		l.Close()
	}
	if b.dir != "" {
		os.RemoveAll(b.dir)
	}
}

// machine boots the machine that most figures share.
func (b *bench) machine(ctx context.Context) (*vmtest.VM, error) {
	if b.vm != nil {
		return b.vm, nil
	}
	load, err := b.compile(ctx, "load", "vmtest/bench/load/load.c")
	if err != nil {
		return nil, err
	}
	raw := filepath.Join(b.dir, "raw")
	if err := vmtest.BuildStatic(ctx, raw, "build", "./vmtest/bench/raw"); err != nil {
		return nil, err
	}
	vm, err := vmtest.Boot(ctx, vmtest.Busybox(), vmtest.Memory(1<<30), vmtest.Files(
		initramfs.File{Path: loadPath, Source: load, Mode: 0o755}, initramfs.File{Path: rawPath, Source: raw, Mode: 0o755}))
	if err != nil {
		return nil, err
	}
	b.vm = vm
	return vm, nil
}

// compile builds a static C program; source is relative to the module's root.
func (b *bench) compile(ctx context.Context, name, source string) (string, error) {
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "bellhop-bench-")
		if err != nil {
			return "", err
		}
		b.dir = dir
	}
	path := filepath.Join(b.dir, name)
	out, err := exec.CommandContext(ctx, "gcc", "-O2", "-static", "-o", path, source).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build %s: %v: %s", source, err, out)
	}
	return path, nil
}

// ratio measures two sides in turn and returns the ratio of their medians. What each side measures is up to it: seconds, or bytes per second. A first
// run of each warms up and does not count.
func (b *bench) ratio(name string, numerator, denominator func() (float64, error)) (float64, error) {
	return b.ratioOf(b.runs, name, numerator, denominator)
}

// ratioOf is ratio with a number of runs.
func (b *bench) ratioOf(runs int, name string, numerator, denominator func() (float64, error)) (float64, error) {
	var nums, dens []float64
	for i := range runs + 1 {
		n, err := numerator()
		if err != nil {
			return 0, err
		}
		d, err := denominator()
		if err != nil {
			return 0, err
		}
		if i == 0 {
			continue
		}
		nums, dens = append(nums, n), append(dens, d)
	}
	fmt.Fprintf(b.log, "bench: %s: %.4g against %.4g (medians of %d)\n", name, median(nums), median(dens), runs)
	return median(nums) / median(dens), nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// perSecond is the rate of n things in d.
func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
