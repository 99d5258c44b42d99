package initramfs

import "github.com/bellhop-vm/bellhop/initramfs/kernelimage"

// KernelVersion returns the release and the architecture (as GOARCH spells it)
// of a kernel image. See [kernelimage.Read].
func KernelVersion(path string) (release, arch string, err error) {
	info, err := kernelimage.Read(path)
	return info.Release, info.Arch, err
}
