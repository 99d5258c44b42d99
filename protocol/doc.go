// Package protocol is the wire between a Bellhop host and its guest agent: the hello, the framing of control messages, the preamble, chunks and
// records of data connections, error codes and limits. SPEC.md in this directory is normative; testdata holds golden vectors.
//
// The package is pure: it starts no goroutine, logs nothing, and works on io.Reader and io.Writer. Every length is checked
// before memory is allocated. Messages are in the subpackage pb, the state machines of a stream in stdio, the yamux frame filter in framefilter.
package protocol
