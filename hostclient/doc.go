// Package hostclient runs OCI processes inside a Linux virtual machine whose guest agent is bellhopd, and makes them feel local.
//
// Start with [Connect], which takes a [Transport]: how the host dials a port of the guest, and listens on a port that the guest dials.
// Then [Client.Command] has the shape of os/exec, for a process in the guest's own root; [Client.NewContainer] and [Container.Init] run a
// container from an OCI runtime-spec, and [Container.Command] a further process in it. [Client.NewProcess] is the level below: a [Process] with its
// lifecycle step by step (Create, Start, Kill, Wait, Delete).
//
// # What it promises
//
// What runs in the guest belongs to the guest: it outlives the connection and the client. A client whose connection breaks connects again by
// itself, repeats what it had no answer to (the guest does nothing twice), and attaches to the stdio of its processes again; nothing of their input and
// output is lost or doubled as long as the client lives. When the guest itself was restarted, what was in it is gone, and calls fail with
// [ErrGuestRestarted].
//
// Every call takes a context and ends soon after it does. A call that was cancelled either has not happened, or, past the operation's commit point, has
// happened without its answer: [Process.Delete] cleans up after both.
//
// The guest is not trusted. Whatever it sends is bounded and checked; at worst it ends its own connection.
//
// # Errors
//
// An operation that the guest refused is a [*protocol.StatusError] in the chain: errors.Is with containerd's errdefs (errdefs.ErrNotFound and so on) tells what
// kind it is, and its text names the steps ("start process web: exec /bin/nope: not found"). A process that ran and failed is an [*ExitError], from [Cmd] only.
//
// All types may be used from any number of goroutines, except [Cmd], which like exec.Cmd belongs to one.
package hostclient
