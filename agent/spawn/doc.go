// Package spawn is the task of processes that are not the first of a container: execs in a container, and processes in the guest's own root. It turns
// the protocol's Process into a request to the nursery, which forks it.
//
// New checks and resolves everything that needs no process: the fork happens in Start.
package spawn
