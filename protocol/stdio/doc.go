// Package stdio holds the two state machines of a stream of bytes that survives broken connections: the Sender (SPEC 6.3) with the Ring of what is not yet
// acknowledged, and the Receiver (SPEC 6.4). Guest and host use the same ones, each in its own direction.
//
// The machines are pure: they do no I/O, start no goroutine, read no clock and take no lock. Their owner tells them what happened and asks what to write next. A Sender
// or Receiver must be used by one goroutine at a time; a Pool may be shared.
package stdio
