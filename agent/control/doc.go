// Package control is the guest's side of control connections: hello, frame filter, yamux, and one operation at a time on each stream (SPEC 2 to 4).
// What the operations do is the Handler's matter; the package knows only how requests come in, how progress and results go out, and that closing a
// stream cancels.
//
// A Server owns every goroutine that it starts: the accept loop, one for each connection, and for each stream a permanent reader and a worker. Serve joins them all.
package control
