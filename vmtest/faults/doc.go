// Package faults tests "stdio that loses nothing" in a real machine: while processes move pseudo-random bytes, the vsock device cuts, closes, half-closes and stalls their
// data connections and the control connection at chosen and at random bytes, clients are killed, and readers stand still. What arrives must be what was sent, byte for byte,
// and no process may notice.
//
// `go test ./vmtest/faults` runs the tests at a size that fits into every run. -soak=DURATION goes on with random faults for so long. Every random
// choice comes from a seed, which a failing test prints and -seed=N sets. The order in which connections come is not the seed's, so
// the same seed gives the same faults, but not the same run to the byte.
package faults
