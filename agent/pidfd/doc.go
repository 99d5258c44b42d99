// Package pidfd waits for child processes without a thread or a goroutine per process.
//
// A [Waiter] polls the pidfds of all children with one epoll instance and one goroutine. It calls waitid(2) only for a pidfd that is readable, so it never blocks, and it names the
// child by its pidfd, so it never reaps a stranger. Whoever makes a child opens its pidfd before anything can reap it, which for a child of this process means: before [Waiter.Add].
package pidfd
