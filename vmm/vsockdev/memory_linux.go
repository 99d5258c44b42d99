package vsockdev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapMemory maps the regions that specs describe, each from its file. It does not keep the files.
func mapMemory(specs []regionSpec, files []int) (*memory, error) {
	if len(specs) != len(files) || len(specs) > maxRegions {
		return nil, fmt.Errorf("cannot map memory: %d regions and %d files", len(specs), len(files))
	}
	var mappings [][]byte
	m := &memory{unmap: func() error {
		var errs []error
		for _, b := range mappings {
			errs = append(errs, unix.Munmap(b))
		}
		return errors.Join(errs...)
	}}
	for i, s := range specs {
		b, skip, err := mapRegion(s, files[i])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot map memory: %w", err), m.close())
		}
		mappings = append(mappings, b)
		m.regions = append(m.regions, region{guest: s.guest, user: s.user, mem: b[skip : skip+int(s.size) : skip+int(s.size)]})
	}
	return m, nil
}

// mapRegion maps one region. The region starts skip bytes into the mapping, because mappings start at a page.
func mapRegion(s regionSpec, fd int) (b []byte, skip int, err error) {
	if err := s.check(); err != nil {
		return nil, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, 0, os.NewSyscallError("fstat", err)
	}
	// Beyond the end of the file every access is a SIGBUS, so it is refused now rather than met later.
	if st.Size < 0 || s.offset+s.size > uint64(st.Size) {
		return nil, 0, fmt.Errorf("%w: it ends at %#x of a file of %#x bytes", errBadRegion, s.offset+s.size, st.Size)
	}
	skip = int(s.offset % uint64(os.Getpagesize()))
	b, err = unix.Mmap(fd, int64(s.offset)-int64(skip), skip+int(s.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return b, skip, os.NewSyscallError("mmap", err)
}
