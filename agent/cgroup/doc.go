// Package cgroup makes, signals, watches and removes cgroups of the unified hierarchy, cgroups(7): one for each container and for each process outside
// containers. It waits for the kernel's notifications and never polls.
package cgroup
