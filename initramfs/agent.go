package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/bellhop-vm/bellhop/initramfs/kernelimage"
)

// checkAgent refuses an /init that the kernel could not run in an archive that
// holds nothing else: a panic at boot says much less.
func checkAgent(path string, t target) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer f.Close()
	start := make([]byte, 4)
	if _, err := io.ReadFull(f, start); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("agent: %w", err)
	}
	if bytes.HasPrefix(start, []byte("#!")) {
		return nil
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("agent %s is neither a Linux executable nor a script", path)
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("agent %s is linked dynamically: link it statically (-extldflags -static)", path)
		}
	}
	if arch := kernelimage.ArchOf(e.Machine); t.arch != "" && arch != t.arch {
		return fmt.Errorf("agent %s is for %s, but the kernel %s is for %s", path, arch, t.path, t.arch)
	}
	return nil
}
