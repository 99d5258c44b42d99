//go:build !linux

package vmm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return nil }

func socketPair() (net.Conn, *os.File, error) {
	return nil, nil, fmt.Errorf("virtual machines run on Linux hosts only: %w", errors.ErrUnsupported)
}
