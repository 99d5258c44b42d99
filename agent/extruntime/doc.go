// Package extruntime makes containers with an OCI runtime that is a program in the guest, such as runc or crun, in the place of libcontainer: the runtime creates, starts,
// signals and deletes them, and executes further processes in them.
//
// A runtime's create, and its exec --detach, leave a process and end. Only a process's parent learns how it ended, so each such command is run by a keeper, a small C process made
// from the agent's binary (keeper.c): it is a subreaper, inherits the process, reaps it and reports its status. There is one keeper for each process, which ends with it. The other
// commands are run in the same way and leave none.
//
// What is relied on of a runtime is what containerd and others use of every one: the commands create, start, exec, kill and delete with --bundle, --pid-file, --console-socket,
// --process, --detach and --force, and the global options --root, --log and --log-format. Its text is untrusted: it is bounded and cleaned, and decides nothing.
package extruntime
