package vsockdev

import (
	"fmt"
	"net"
)

// Addr is the address of one end of a vsock connection.
type Addr struct {
	CID  uint64
	Port uint32
}

// Network returns "vsock".
func (Addr) Network() string { return "vsock" }

// String returns the address as CID:port, for example "3:1024".
func (a Addr) String() string { return fmt.Sprintf("%d:%d", a.CID, a.Port) }

// connKey tells the device's connections apart. There is one guest and one host, so two ports do.
type connKey struct {
	host, guest uint32
}

// opError wraps err as package net does, so that callers find net.OpError around every error of a connection.
func opError(op string, local, remote net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "vsock", Source: local, Addr: remote, Err: err}
}
