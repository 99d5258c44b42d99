package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// config is what `bellhop run` was asked to do.
type config struct {
	rootfs      string
	readOnly    bool
	argv        []string
	env         []string
	cwd         string
	user        string
	interactive bool // stdin is connected
	terminal    bool
	init        bool  // the process is the child of a small init
	memory      int64 // bytes
	cpus        int
	kernel      string
	modules     string
	agent       string
	bootTimeout time.Duration
	timeline    bool
	verbose     bool

	stdin          *os.File
	stdout, stderr io.Writer
}

const runUsage = `Boots a virtual machine, runs CMD in a container on a copy of DIR, and exits with its code.

Usage:
  bellhop run --rootfs DIR [flags] -- CMD [ARG...]

Changes that CMD makes to its root file system are gone when it ends. Signals are
passed on to CMD. Without --init it is process 1 of its container, and ignores those
that it does not handle; the third interrupt or termination ends the machine.

Flags:
`

// parseRun turns the arguments behind `run` into a config. Its error is pflag.ErrHelp when help was asked for, and printed to out.
func parseRun(args []string, out io.Writer) (*config, error) {
	cfg := &config{}
	var memory string
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.SetInterspersed(false)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(&cfg.rootfs, "rootfs", "", "directory with the container's root file system (required)")
	fs.BoolVar(&cfg.readOnly, "read-only", false, "let the container not write to its root file system")
	fs.BoolVarP(&cfg.interactive, "interactive", "i", false, "connect stdin")
	fs.BoolVarP(&cfg.terminal, "tty", "t", false, "run in a terminal; with -i it is this one")
	fs.BoolVar(&cfg.init, "init", false, "run a small init that reaps orphans and passes signals on to CMD, its child")
	fs.StringVarP(&memory, "memory", "m", "512M", "the machine's memory, with suffix K, M or G")
	fs.IntVar(&cfg.cpus, "cpus", 2, "the machine's processors")
	fs.StringArrayVarP(&cfg.env, "env", "e", nil, "environment variable NAME=VALUE, or NAME to pass it on")
	fs.StringVarP(&cfg.cwd, "workdir", "w", "/", "working directory in the container")
	fs.StringVarP(&cfg.user, "user", "u", "", "user in the container: UID[:GID]")
	fs.StringVar(&cfg.kernel, "kernel", os.Getenv("BELLHOP_KERNEL"), "kernel image (default: $BELLHOP_KERNEL, or kernel/vmlinuz beside this program)")
	fs.StringVar(&cfg.modules, "modules", os.Getenv("BELLHOP_MODULES"), "the kernel's lib/modules/VERSION directory (default: $BELLHOP_MODULES, or beside the kernel)")
	fs.StringVar(&cfg.agent, "agent", os.Getenv("BELLHOP_AGENT"), "guest agent (default: $BELLHOP_AGENT, or bellhopd beside this program)")
	fs.DurationVar(&cfg.bootTimeout, "boot-timeout", time.Minute, "how long the machine may take until its agent answers")
	fs.BoolVar(&cfg.timeline, "timeline", false, "print when what happened to stderr at the end")
	fs.BoolVarP(&cfg.verbose, "verbose", "v", false, "print the machine's console and a log to stderr")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(out, runUsage, fs.FlagUsages())
		}
		return nil, err
	}
	cfg.argv = fs.Args()
	return cfg, cfg.complete(memory)
}

// complete checks what the flags gave and fills in what follows from it.
func (c *config) complete(memory string) (err error) {
	if c.rootfs == "" {
		return errors.New("no root file system: give --rootfs DIR (see bellhop run --help)")
	}
	if len(c.argv) == 0 {
		return errors.New("no command: give it behind --, as in bellhop run --rootfs DIR -- uname -a")
	}
	if c.memory, err = parseBytes(memory); err != nil {
		return fmt.Errorf("--memory: %w", err)
	}
	if c.memory < 128<<20 {
		return fmt.Errorf("--memory: %s is too little, a machine needs at least 128M", memory)
	}
	if c.cpus < 1 || c.cpus > 255 {
		return fmt.Errorf("--cpus: %d, must be from 1 to 255", c.cpus)
	}
	c.env, err = expandEnv(c.env)
	return err
}

// expandEnv gives NAME without a value the one it has here, and drops it where it has none, as docker run does.
func expandEnv(env []string) ([]string, error) {
	var out []string
	for _, e := range env {
		name, _, hasValue := strings.Cut(e, "=")
		if name == "" {
			return nil, fmt.Errorf("--env: %q has no name", e)
		}
		if hasValue {
			out = append(out, e)
		} else if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out, nil
}

// parseBytes reads a size such as 512M; suffixes are powers of 1,024.
func parseBytes(s string) (int64, error) {
	number, shift := s, 0
	switch {
	case s == "":
		return 0, errors.New("empty size")
	case strings.ContainsAny(s[len(s)-1:], "kK"):
		number, shift = s[:len(s)-1], 10
	case strings.ContainsAny(s[len(s)-1:], "mM"):
		number, shift = s[:len(s)-1], 20
	case strings.ContainsAny(s[len(s)-1:], "gG"):
		number, shift = s[:len(s)-1], 30
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size such as 512M", s)
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return n << shift, nil
}

// parseUser reads UID[:GID].
func parseUser(s string) (uid, gid uint32, err error) {
	if s == "" {
		return 0, 0, nil
	}
	u, g, hasGID := strings.Cut(s, ":")
	n, err := strconv.ParseUint(u, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("--user: %q is not UID[:GID]", s)
	}
	if !hasGID {
		return uint32(n), 0, nil
	}
	m, err := strconv.ParseUint(g, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("--user: %q is not UID[:GID]", s)
	}
	return uint32(n), uint32(m), nil
}
