// Package statistics reads what a container uses from the files of its cgroup, and the counters of its network interfaces. It takes no lock and waits for nobody, so whoever reads holds
// up nothing else, and it keeps no file open: an open file of a cgroup costs the guest more memory than opening it anew costs time.
package statistics
