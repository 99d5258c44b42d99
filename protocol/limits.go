package protocol

import "time"

// ControlPort is the vsock port on which the agent listens (SPEC 1).
const ControlPort = 1024

// The default limits of SPEC 9. Sizes are in bytes.
const (
	MaxMessage          = 1 << 20
	MaxStreams          = 256
	MaxChunk            = 1 << 20
	MaxHelloBody        = 4096
	MaxRing             = 1 << 20
	MinRing             = 4 << 10
	MaxControlConns     = 16
	MaxProcesses        = 4096
	MaxWatchQueue       = 1024
	MaxArgsAndEnv       = 512 << 10
	MaxIDLength         = 128
	MaxRememberedDelete = 1024
	MaxRootfs           = 1024
	MaxLayers           = 128
	MaxFile             = 64 << 10
	MaxFiles            = 512 << 10
	MaxFileCount        = 64

	// MaxStatisticsEntries bounds the devices, the network interfaces and the sizes of huge pages in a container's statistics, each.
	MaxStatisticsEntries = 64
)

// What a hello may not go below (SPEC 2).
const (
	MinMessage = 64 << 10
	MinStreams = 8
	MinChunk   = 4 << 10
)

// InstanceSize is the length of an instance in bytes.
const InstanceSize = 16

// The default bounds of SPEC 9.
const (
	HelloTimeout      = 10 * time.Second
	ConnectTimeout    = 3 * time.Second
	MaxConnectTimeout = time.Minute
	DrainTimeout      = 3 * time.Second
)

// When a receiver acks (SPEC 6.2): AckBytesSmall is for a sender whose ring may be small.
const (
	AckBytes      = 512 << 10
	AckBytesSmall = 128 << 10
	AckDelay      = 20 * time.Millisecond
)

// NoDrainTimeout in drain_timeout_ms asks for no bound.
const NoDrainTimeout = 1<<32 - 1
