//go:build linux && cgo

package main

import (
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer/exeseal"
	"golang.org/x/sys/unix"
)

// sealSelf runs a sealed copy of this binary in place of this process, with the
// same arguments and environment, and returns only when this is one already (as
// PID 1's child always is), or when that fails. libcontainer would otherwise copy
// the binary for each process it makes.
func sealSelf() error {
	if exeseal.IsSelfExeCloned() {
		return nil
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("cannot seal the agent's binary: %w", err)
	}
	defer self.Close()
	st, err := self.Stat()
	if err != nil {
		return fmt.Errorf("cannot seal the agent's binary: %w", err)
	}
	sealed, err := exeseal.CloneBinary(self, st.Size(), "bellhopd", os.TempDir())
	if err != nil {
		return fmt.Errorf("cannot seal the agent's binary: %w", err)
	}
	defer sealed.Close()
	if !exeseal.IsCloned(sealed) {
		return fmt.Errorf("cannot seal the agent's binary: memfds cannot be executed here")
	}
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", sealed.Fd()), os.Args, os.Environ())
	return fmt.Errorf("cannot run the sealed copy of the agent's binary: %w", err)
}
