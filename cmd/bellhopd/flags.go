//go:build linux && cgo

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/bellhop-vm/bellhop/agent/boot"
)

const usage = `usage: bellhopd [flags]

Runs Bellhop's agent as a service of this machine, for a host that connects to
it. As /init of a guest it takes no flags but bellhop.* words of the kernel
command line.

`

// options are the flags of the agent as a service.
type options struct {
	boot.Config
	listenOn string // "vsock", or "unix:PATH"
	cgroups  bool   // the cgroup that the agent was started in is its own
	version  bool
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// parseFlags parses the arguments after the program's name. The error is
// flag.ErrHelp when help was asked for (and printed to stdout), else a usageError.
func parseFlags(args []string, stdout io.Writer) (*options, error) {
	opts := &options{Config: boot.DefaultConfig()}
	flags := flag.NewFlagSet("bellhopd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, f := range []struct{ name, key, help string }{
		{"port", "port", "vsock `port` to listen on (default 1024)"},
		{"allow-cid", "allow_cid", "`CIDs` that may connect, with commas between them (default 2, the host)"},
		{"log-level", "loglevel", "debug, info, warn or error (default info)"},
	} {
		flags.Func(f.name, f.help, func(value string) error { return opts.Set(f.key, value) })
	}
	flags.StringVar(&opts.listenOn, "listen", "vsock", "where to listen: vsock, or unix:`PATH`; the agent then dials the host's port N at PATH_N")
	flags.BoolVar(&opts.cgroups, "cgroups", true, "lay out the cgroup that the agent was started in, which no other process may use; without it there are no containers")
	flags.BoolVar(&opts.version, "version", false, "print the version and exit")

	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, usageError{err}
	case flags.NArg() > 0:
		return nil, usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}
	if path, ok := strings.CutPrefix(opts.listenOn, "unix:"); opts.listenOn != "vsock" && (!ok || path == "") {
		return nil, usageError{fmt.Errorf("cannot listen on %q: it is neither vsock nor unix:PATH", opts.listenOn)}
	}
	return opts, nil
}

// endpoint is what the flags name.
func (o *options) endpoint() endpoint {
	if path, ok := strings.CutPrefix(o.listenOn, "unix:"); ok {
		return unixEndpoint(path)
	}
	return vsockEndpoint(o.Port, o.AllowCIDs)
}
