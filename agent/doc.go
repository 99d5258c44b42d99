// Package agent is the guest's side of Bellhop: it serves control connections and does their operations (protocol/SPEC.md, section 4) with the processes
// of this guest.
//
// New makes an Agent, Serve runs it, Close ends it. What a connection creates belongs to the guest and outlives the connection. The parts are in packages of
// their own: control (connections), repeat (request ids), process (the table and its states), container and spawn (what runs), relay (stdio), nursery and pidfd
// (forking and waiting), extruntime (other runtimes), speccheck, seccomp and initfilter (what a spec may ask for, and its filter), rootstore (root file systems), statistics, cgroup,
// mount, rootfs. This one ties them together, one file an operation or a few that belong together.
package agent
