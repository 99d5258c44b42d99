// Package control is the guest's side of control connections: hello, frame filter, its side of yamux, and one operation at a time on each stream (SPEC 2 to 4).
// What the operations do is the Handler's matter; the package knows only how requests come in, how progress and results go out, and that closing a
// stream cancels.
//
// The guest's part of yamux is small: it opens no streams, and all that comes on one is requests. So a connection has one goroutine that reads it, puts requests together and answers at
// once what can be, without a goroutine, a channel or a timer in between; under emulation those cost several times what a call does (docs/decisions/0008).
//
// A Server owns every goroutine that it starts: the accept loop, one for each connection, and one for each operation that is not answered at once. Serve joins them all.
package control
