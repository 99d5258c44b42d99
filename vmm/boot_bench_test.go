//go:build linux

package vmm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/initramfs"
)

// BenchmarkBootCompression compares the time from QEMU's start to the guest's
// power-off over the compressions of the initramfs. The archive has what
// a real one has: the agent and its modules. Each iteration boots every
// compression once, interleaved, so that a busy machine is unfair to none; the
// medians are reported.
func BenchmarkBootCompression(b *testing.B) {
	cfg := testConfig(b, "poweroff")
	initrds := compressedInitrds(b)
	times := make(map[initramfs.Compression][]time.Duration)
	for b.Loop() {
		for c := initramfs.None; c <= initramfs.Zstd; c++ {
			cfg.Initrd = initrds[c]
			vm := startVM(b, cfg)
			if err := vm.Wait(); err != nil {
				b.Fatal(err)
			}
			times[c] = append(times[c], time.Since(vm.StartTime()))
		}
	}
	for c, t := range times {
		slices.Sort(t)
		b.ReportMetric(float64(t[len(t)/2].Milliseconds()), c.String()+"-ms")
		b.ReportMetric(float64(t[0].Milliseconds()), c.String()+"-min-ms")
	}
}

func compressedInitrds(b *testing.B) map[initramfs.Compression]string {
	b.Helper()
	kernel, modules := kernelFiles(b)
	agent := filepath.Join(b.TempDir(), "bellhopd")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -linkmode external -extldflags -static", "-o", agent, "../cmd/bellhopd")
	if out, err := build.CombinedOutput(); err != nil {
		b.Skipf("cannot build the agent: %v\n%s", err, out)
	}
	initrds := make(map[initramfs.Compression]string)
	for c := initramfs.None; c <= initramfs.Zstd; c++ {
		path := filepath.Join(b.TempDir(), "initrd")
		err := initramfs.BuildFile(path, initramfs.Spec{
			Agent:       guestInit(b),
			ModulesDir:  modules,
			Kernel:      kernel,
			Modules:     []string{"virtio_pci", "virtio_blk", "vmw_vsock_virtio_transport", "overlay"},
			Files:       []initramfs.File{{Path: "/bellhopd", Source: agent}},
			Compression: c,
		})
		if err != nil {
			b.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Size())/1e6, fmt.Sprint(c, "-MB"))
		initrds[c] = path
	}
	return initrds
}
