// Package framefilter checks the yamux frames of a control connection before the yamux implementation above it sees them (SPEC 3), and merges each
// outgoing frame's header and body into one Write.
//
// hashicorp/yamux trusts its peer in several ways: a ping costs a goroutine, a window increment may overflow, a second ACK confuses its
// accounting, and any peer may open streams. New wraps the connection that yamux is given, on both sides:
//
//	conn := framefilter.New(raw, framefilter.Host, framefilter.Limits{})
//	session, err := yamux.Client(conn, config)
//
// The filter starts no goroutine, holds back no frame by a timer, and does not allocate per frame. Its memory is one record for each live stream and a few
// counters for all the dead ones. docs/decisions/0003-yamux.md says how yamux itself is to be configured.
package framefilter
