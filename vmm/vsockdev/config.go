package vsockdev

import (
	"errors"
	"fmt"
	"log/slog"
)

// CIDs with a fixed meaning (vsock(7)).
const (
	// HostCID is the context identifier under which a guest reaches its host.
	HostCID = 2
	// DefaultGuestCID is the guest's own context identifier unless Config says otherwise. Nobody else sees it, so
	// every VM may have the same one.
	DefaultGuestCID = 3
)

const (
	defaultReceiveBuffer  = 256 << 10
	minReceiveBuffer      = 4 << 10
	maxReceiveBuffer      = 64 << 20
	defaultMaxConnections = 4096
)

// ErrNotReady is what Dial returns while the guest's driver is not up: before it has set up its queues, and again after
// the guest has stopped or reset the device. Ready tells when to try again.
var ErrNotReady = errors.New("the guest's vsock driver is not up")

// ErrFrontendGone is what operations return once the virtual machine monitor has closed its end of the socket. It is final.
var ErrFrontendGone = errors.New("the virtual machine monitor has gone")

// Config holds the settings of a Device. The zero value and a nil *Config mean the defaults.
type Config struct {
	// GuestCID is the guest's context identifier: 3 if zero. It must be above 2 and fit 32 bits.
	GuestCID uint64

	// ReceiveBuffer bounds, in bytes, what a connection may hold that the host has not read: the buf_alloc that the
	// guest is told. Zero means 256 KiB; docs/vsock-device.md says why. Between 4 KiB and 64 MiB.
	ReceiveBuffer uint32

	// MaxConnections bounds how many connections may exist at a time, both directions together; zero means 4096.
	// Above it the guest's requests are reset and Dial fails with EMFILE.
	MaxConnections int

	// Logger gets what ends a ring or the device, and what the monitor does wrong; nil is silent. Bad packets and
	// descriptors are counted in Stats and not logged, so a guest can't fill a log with them.
	Logger *slog.Logger

	// Fault, if not nil, is asked once for each new connection which faults to inject into it. It is meant for
	// tests; see Fault. It is called from the device's own goroutines and must not block or use the Device.
	Fault func(ConnInfo) []Fault
}

// resolve returns a copy with the defaults filled in, or says what is out of range.
func (cfg *Config) resolve() (Config, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	if c.GuestCID == 0 {
		c.GuestCID = DefaultGuestCID
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = defaultReceiveBuffer
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultMaxConnections
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.GuestCID <= HostCID || c.GuestCID >= 1<<32-1:
		return c, fmt.Errorf("guest CID %d is not between 3 and 2^32-2", c.GuestCID)
	case c.ReceiveBuffer < minReceiveBuffer || c.ReceiveBuffer > maxReceiveBuffer:
		return c, fmt.Errorf("receive buffer of %d bytes is not between %d and %d", c.ReceiveBuffer, minReceiveBuffer, maxReceiveBuffer)
	case c.MaxConnections < 0:
		return c, fmt.Errorf("%d connections at most is less than none", c.MaxConnections)
	}
	return c, nil
}
