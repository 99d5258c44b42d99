package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// baselinePort is where the do-nothing init connects to; baseline.c has the same number.
const baselinePort = 1025

func bootFigures() []figure {
	return []figure{
		{"boot", "<=1.25", func(ctx context.Context, b *bench) (float64, error) {
			return b.ratio("boot to the first connection, s",
				func() (float64, error) { return b.bootAgent(ctx) },
				func() (float64, error) { return b.bootBaseline(ctx) })
		}},
	}
}

// bootAgent is the time from QEMU's start to the agent's hello.
func (b *bench) bootAgent(ctx context.Context) (float64, error) {
	vm, err := vmtest.Boot(ctx)
	if err != nil {
		return 0, err
	}
	defer vm.Close()
	return time.Since(vm.Machine.StartTime()).Seconds(), nil
}

// bootBaseline is the same for an init that loads the same modules and connects once.
func (b *bench) bootBaseline(ctx context.Context) (float64, error) {
	initrd, guest, err := b.baselineInitrd(ctx)
	if err != nil {
		return 0, err
	}
	vm, err := vmm.Start(ctx, vmm.Config{Kernel: guest.Kernel, Initrd: initrd})
	if err != nil {
		return 0, err
	}
	defer vm.Close()
	l, err := vm.Listen(baselinePort)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	c, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return time.Since(vm.StartTime()).Seconds(), nil
}

// baselineInitrd has the baseline in the agent's place and is the same otherwise.
func (b *bench) baselineInitrd(ctx context.Context) (string, initramfs.Guest, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return "", initramfs.Guest{}, err
	}
	guest := vm.Guest
	if guest.Agent, err = b.compile(ctx, "baseline", "vmtest/bench/baseline/baseline.c"); err != nil {
		return "", guest, err
	}
	path := filepath.Join(b.dir, "baseline.initrd")
	return path, guest, initramfs.BuildFile(path, guest.Spec())
}

// plainInitrd is that of a guest without additions.
func (b *bench) plainInitrd(ctx context.Context) (string, error) {
	vm, err := b.machine(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "plain.initrd")
	return path, initramfs.BuildFile(path, vm.Guest.Spec())
}
