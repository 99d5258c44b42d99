// Package nursery starts processes, in containers and outside, at about the price of a fork.
//
// [Start] makes one small C process, the nursery, from the agent's own binary. It lives in the agent's namespaces and cgroup, where no container sees it. [Nursery.Spawn] sends it one
// message per process; it joins the container's pid namespace for children, forks once, straight into the cgroup, and the fork prepares itself (namespaces, identity, limits, terminal,
// seccomp) and executes the program. The fork is a child of the agent, which learns its pid at once and so can always kill it.
//
// Nothing that a container does stops the agent: no Go thread ever joins a namespace, and no fork lock is held while a process that a container can see, stop or freeze is prepared.
// When the nursery dies, is stopped or wedges, it is killed and made again; a page shared with it says exactly which process it forked last, so no process is lost and none starts twice.
//
// Beside request.h, which lays down the message, the C files are: nursery.c (the process), slim.c (what keeps a fork of it cheap), child.c and the files beneath it (what the fork does,
// without libc).
package nursery
