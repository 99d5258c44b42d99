// Package process holds the agent's processes: one type, Process, for the first process of a container and for execs; the Table that names them; and
// the Hub that tells watchers.
//
// A Process goes created → running → exited → deleted. What it does in the kernel is its Task's matter, what moves its bytes its Stdio's; the package
// keeps their order. No lock is held while anything blocks: who changes a process's life (Start, Delete) holds its turn, a channel that can be waited
// for with a context; the mutex guards fields only.
package process
