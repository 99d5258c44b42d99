// Command bellhop boots a virtual machine and runs an OCI process in it, as if it were local: its stdio is this command's, its exit code
// is this command's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/pflag"
)

const usage = `Bellhop runs OCI processes inside Linux virtual machines.

Usage:
  bellhop run --rootfs DIR [flags] -- CMD [ARG...]
  bellhop version
  bellhop help [run]

Exit codes of run: the process's own; 128+n if signal n ended it; 127 if the program
was not found, 126 if it could not be executed; 125 if Bellhop itself failed.
`

// exitFailure is the exit code of Bellhop's own failures, as of docker run.
const exitFailure = 125

func main() {
	os.Exit(realMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func realMain(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitFailure
	}
	switch args[0] {
	case "run":
		return runMain(args[1:], stdin, stdout, stderr)
	case "version", "--version":
		fmt.Fprintln(stdout, "bellhop", version())
		return 0
	case "help", "--help", "-h":
		if len(args) > 1 && args[1] == "run" {
			return runMain([]string{"--help"}, stdin, stdout, stderr)
		}
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "bellhop: unknown command %q; see bellhop help\n", args[0])
	return exitFailure
}

func runMain(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	cfg, err := parseRun(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "bellhop run: %v\n", err)
		return exitFailure
	}
	cfg.stdin, cfg.stdout, cfg.stderr = stdin, stdout, stderr
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	code, err := run(ctx, stop, cfg)
	if err != nil {
		fmt.Fprintf(stderr, "bellhop: %v\n", err)
	}
	return code
}

// version is the module's version where the Go command knows it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.1.0-dev"
}
