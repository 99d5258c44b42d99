// Package relay is the guest's end of a process's stdio: it dials the host for each stream, moves bytes between the process's pipes or terminal and
// the data connections, keeps what is not acknowledged, and survives broken connections (SPEC 5 to 7).
//
// A process has one Set. Its life is Connect, ChildFiles, Start (or StartTerminal), ProcessExited, Close; Attach, Detach, CloseStdin, WaitDrained and Info may
// come at any time in between, from any goroutine.
package relay
