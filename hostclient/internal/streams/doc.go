// Package streams is the host's end of a process's stdio: it accepts the guest's data connections, feeds them from the caller's Reader and
// empties them into the caller's Writers, and carries a stream over broken connections (SPEC 5 to 7).
//
// A Hub serves one listener for any number of processes. A process has one Set. The guest is not trusted: what it sends is bounded and checked, and can at worst end
// its own connection.
//
// To create: New, Stdio for the request, Dialing when the guest says so, Connected when it says that it has connected, Created. After a loss: AttachRequest for the request,
// Dialing, Connected and Attached, or Retry where the guest refused. After `drained`, or when all outputs have Ended and the exit is known:
// Finish. At the end: Close.
package streams
