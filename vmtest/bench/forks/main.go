// Command forks is what a Go program in the guest pays for a process: it runs PROGRAM with its ARGs COUNT times, one after the other, with nothing for stdio, and prints the median of the
// times from fork to wait in nanoseconds.
//
//	forks COUNT PROGRAM [ARG]...
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "forks:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: forks COUNT PROGRAM [ARG]")
	}
	count, err := strconv.Atoi(args[0])
	if err != nil || count < 1 {
		return fmt.Errorf("%q is not a count", args[0])
	}
	times := make([]time.Duration, count)
	for i := range times {
		start := time.Now()
		if err := exec.Command(args[1], args[2:]...).Run(); err != nil {
			return fmt.Errorf("%v: %w", args[1:], err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	_, err = fmt.Println(times[count/2].Nanoseconds())
	return err
}
