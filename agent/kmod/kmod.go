//go:build linux

// Package kmod loads kernel modules in a guest whose initramfs brought them: some at boot, others when something needs them. Package initramfs writes the lists.
package kmod

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the initramfs lists its modules, each behind what it needs.
const (
	BootList    = "/etc/bellhop/modules"   // those to load at boot
	onDemandDir = "/etc/bellhop/modules.d" // a list for each of the others, under its name
)

// maxModules bounds the list: it is far above what a guest loads.
const maxModules = 4096

// LoadAtBoot loads the modules of BootList and calls warn for each that fails. The
// boot goes on: who needs the module says so.
func LoadAtBoot(warn func(error)) { loadAll(BootList, loadModule, warn) }

// Demand loads a module that the initramfs has for when something needs it. The
// error wraps fs.ErrNotExist if it has none of that name.
func Demand(name string) error {
	list := filepath.Join(onDemandDir, filepath.Base(name))
	if _, err := os.Stat(list); err != nil {
		return fmt.Errorf("the initramfs has no module %s: %w", name, errors.Unwrap(err))
	}
	var errs []error
	loadAll(list, loadModule, func(err error) { errs = append(errs, err) })
	return errors.Join(errs...)
}

// loadAll loads the modules that the file list names, in its order, and calls
// warn for each that fails. A list that does not exist is empty.
func loadAll(list string, load func(path string) error, warn func(error)) {
	f, err := os.Open(list)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		warn(fmt.Errorf("cannot load modules: %w", err))
		return
	}
	defer f.Close()
	paths, err := parseModuleList(f)
	if err != nil {
		warn(fmt.Errorf("cannot read all of %s: %w", list, err))
	}
	for _, path := range paths {
		if err := load(path); err != nil {
			warn(fmt.Errorf("cannot load module %s: %w", path, err))
		}
	}
}

// parseModuleList reads absolute paths, one a line; empty lines and those that
// begin with # are skipped. With an error come the paths before the bad line.
func parseModuleList(r io.Reader) ([]string, error) {
	var paths []string
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#':
			continue
		case !filepath.IsAbs(line):
			return paths, fmt.Errorf("line %d: %q is not an absolute path", n, line)
		case len(paths) == maxModules:
			return paths, fmt.Errorf("line %d: more than %d modules", n, maxModules)
		}
		paths = append(paths, line)
	}
	return paths, lines.Err()
}

// loadModule loads the uncompressed module at path. One that is loaded already
// is no error; PID 1 has given them a head start, and for one that is being
// loaded the kernel waits.
func loadModule(path string) error {
	if isLive(path) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return errors.Unwrap(err) // the caller names the path
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// isLive says whether the kernel has the module at path. It saves the kernel
// from reading and checking it to find out.
func isLive(path string) bool {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	state, err := os.ReadFile(filepath.Join("/sys/module", strings.ReplaceAll(name, "-", "_"), "initstate"))
	return err == nil && string(state) == "live\n"
}
