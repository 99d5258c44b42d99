// Package container makes containers with libcontainer from OCI runtime-specs, and is the task of a container's first process.
//
// Libcontainer runs its part of a container's creation in a new run of the agent's own binary, so main must begin with
//
//	if container.IsInit() {
//		container.Init()
//	}
//
// Create leaves the process waiting on libcontainer's exec fifo; Start opens it. How the execve went is known by a pipe that only a successful execve closes
// silently (Init). The process is the agent's own child, so its status comes from a pidfd.Waiter. Killing and deleting go by the container's cgroup.
package container
