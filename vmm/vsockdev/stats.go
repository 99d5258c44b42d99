package vsockdev

import "sync/atomic"

// Stats is a snapshot of a device's counters since New, except for Connections.
type Stats struct {
	Connections     int    // in the table now, including those that wait for the guest to confirm a close
	Dialed          uint64 // connections that the host asked for
	Accepted        uint64 // connections that the guest asked for and got
	Refused         uint64 // connections that the guest asked for and did not get
	PacketsSent     uint64 // host to guest
	PacketsReceived uint64
	BytesSent       uint64 // payload, host to guest
	BytesReceived   uint64
	Signals         uint64 // interrupts asked for
	Kicks           uint64 // notifications from the guest
	ResetsReceived  uint64 // connections that the guest broke off
	ResetsDropped   uint64 // resets not sent, because the guest took none for too long
	BadChains       uint64 // descriptor chains that could not be used
	BadPackets      uint64 // packets dropped because their header is wrong
	Violations      uint64 // connections reset because the guest broke the protocol
	Unknown         uint64 // packets for no connection
	Faults          uint64 // injected faults that have acted
}

// counters is the live form of Stats.
type counters struct {
	dialed, accepted, refused     atomic.Uint64
	packetsSent, packetsReceived  atomic.Uint64
	bytesSent, bytesReceived      atomic.Uint64
	signals, kicks                atomic.Uint64
	resetsReceived, resetsDropped atomic.Uint64
	badChains, badPackets         atomic.Uint64
	violations, unknown, faults   atomic.Uint64
}

func (s *counters) snapshot() Stats {
	return Stats{
		Dialed: s.dialed.Load(), Accepted: s.accepted.Load(), Refused: s.refused.Load(),
		PacketsSent: s.packetsSent.Load(), PacketsReceived: s.packetsReceived.Load(),
		BytesSent: s.bytesSent.Load(), BytesReceived: s.bytesReceived.Load(),
		Signals: s.signals.Load(), Kicks: s.kicks.Load(),
		ResetsReceived: s.resetsReceived.Load(), ResetsDropped: s.resetsDropped.Load(),
		BadChains: s.badChains.Load(), BadPackets: s.badPackets.Load(),
		Violations: s.violations.Load(), Unknown: s.unknown.Load(), Faults: s.faults.Load(),
	}
}
