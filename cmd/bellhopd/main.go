//go:build linux && cgo

// Command bellhopd is Bellhop's agent: it runs OCI processes in a Linux guest for
// a host that drives it over vsock.
//
// As /init of an initramfs it is PID 1 and the agent in one binary (see package
// pid1), and the kernel command line's bellhop.* words configure it. Started in
// any other way it is an ordinary service, configured by its flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/bellhop-vm/bellhop/agent"
	"github.com/bellhop-vm/bellhop/agent/boot"
	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/pid1"
)

const version = "0.1.0"

// init runs on the main thread. libcontainer executes this binary again as
// the init of each container, which must not get as far as main. In the agent the
// main goroutine is locked to the main thread and then only waits: libcontainer
// sends threads into a container's mount namespace and relies on their end, and
// the main thread has none.
func init() {
	if container.IsInit() {
		container.Init()
	}
	runtime.LockOSThread()
}

func main() {
	started := boot.Now()
	status := make(chan int)
	go func() { status <- run(started) }()
	os.Exit(<-status)
}

// run runs the agent, in the guest or as a service, and returns the exit status.
func run(started time.Duration) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGPWR)
	defer stop()
	level := new(slog.LevelVar)
	log := newLogger(os.Stderr, level)

	parent := pid1.Find()
	var err error
	if parent != nil {
		err = runGuest(ctx, parent, started, log, level)
	} else {
		err = runService(ctx, os.Args[1:], os.Stdout, started, log, level)
	}
	return exitStatus(err, parent != nil, log)
}

// exitStatus says how run ended, in the log and to the parent. Only as the child
// of Bellhop's own PID 1 may the agent end the machine.
func exitStatus(err error, guest bool, log *slog.Logger) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, new(usageError)):
		fmt.Fprintf(os.Stderr, "bellhopd: %v (bellhopd --help lists the flags)\n", err)
		return 2
	case errors.Is(err, agent.ErrReboot) && guest:
		return pid1.ExitReboot
	case errors.Is(err, agent.ErrPowerOff) && guest:
		return 0
	case errors.Is(err, agent.ErrReboot), errors.Is(err, agent.ErrPowerOff):
		log.Warn("only the agent ends, not the machine, which has another init", "reason", err)
		return 0
	}
	log.Error(err.Error())
	return 1
}

// newLogger writes lines without times: the guest's console and the journal of
// another init have their own.
func newLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// runGuest boots the guest and serves its host.
func runGuest(ctx context.Context, parent *pid1.Parent, started time.Duration, log *slog.Logger, level *slog.LevelVar) error {
	place, err := boot.Guest(parent, started, log, level)
	if err != nil {
		return fmt.Errorf("cannot boot: %w", err)
	}
	return serve(ctx, place, vsockEndpoint(place.Port, place.AllowCIDs), log)
}

// runService does what the flags in args say.
func runService(ctx context.Context, args []string, stdout io.Writer, started time.Duration, log *slog.Logger, level *slog.LevelVar) error {
	opts, err := parseFlags(args, stdout)
	if err != nil {
		return err
	}
	if opts.version {
		_, err := fmt.Fprintln(stdout, "bellhopd", version)
		return err
	}
	level.Set(opts.LogLevel)
	if err := sealSelf(); err != nil {
		log.Warn(err.Error())
	}
	place := boot.Service(opts.Config, opts.cgroups, started, log)
	return serve(ctx, place, opts.endpoint(), log)
}
