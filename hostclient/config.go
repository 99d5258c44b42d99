package hostclient

import (
	"log/slog"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
)

const (
	defaultReconnectTimeout = 30 * time.Second
	defaultPingTimeout      = 10 * time.Second
)

// Config holds the settings of a client. The zero value of each field, and a nil *Config, stand for the defaults.
type Config struct {
	// ControlPort is the guest's port on which the agent listens; 0 is 1024.
	ControlPort uint32

	// StdioPort is the host's port that the guest dials for stdio. With 0 the client looks for a free one, which suits every transport but [UnixPorts].
	StdioPort uint32

	// Software names the caller in the guest's log, as "name version".
	Software string

	// ReconnectTimeout bounds how long the client goes on trying after the connection broke, counted from the last answer that the guest gave; when it is over, the
	// client has failed for good. 0 is 30 s. Negative: it does not connect again.
	ReconnectTimeout time.Duration

	// PingInterval turns on liveness: a guest that leaves a ping unanswered for PingTimeout counts as lost, and the client connects again.
	// 0 is off: a connection then counts as alive until it breaks. See [Client.Pause] for machines that are paused.
	PingInterval time.Duration

	// PingTimeout is how long a ping may take; 0 is 10 s. A guest under heavy load answers late, so be generous.
	PingTimeout time.Duration

	// Logger takes what no caller is told: connections lost and made again. Nil is silence.
	Logger *slog.Logger
}

// withDefaults gives a copy with every default filled in.
func (cfg *Config) withDefaults() Config {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	if c.ControlPort == 0 {
		c.ControlPort = protocol.ControlPort
	}
	if c.Software == "" {
		c.Software = "bellhop hostclient"
	}
	if c.ReconnectTimeout == 0 {
		c.ReconnectTimeout = defaultReconnectTimeout
	}
	if c.PingTimeout <= 0 {
		c.PingTimeout = defaultPingTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
