//go:build linux && cgo

package main

import (
	"context"
	"log/slog"

	"github.com/bellhop-vm/bellhop/agent"
	"github.com/bellhop-vm/bellhop/agent/boot"
)

// serve runs the agent on ep until ctx ends. The error is agent.ErrPowerOff or
// agent.ErrReboot when a client asked for that.
func serve(ctx context.Context, place *boot.Result, ep endpoint, log *slog.Logger) error {
	a, err := agent.New(agent.Config{
		Dial:       ep.dial,
		AllowPeer:  ep.allow,
		CgroupRoot: place.CgroupRoot,
		Logger:     log,
		Instance:   place.Instance,
		Software:   "bellhopd " + version,
		PID1:       place.PID1,
		Timeline:   agent.Timeline{Init: place.Timeline.Init, Main: place.Timeline.Main},
	})
	if err != nil {
		return err
	}
	defer func() {
		if closing := a.Close(); closing != nil {
			log.Warn("cannot end cleanly", "err", closing)
		}
	}()
	<-place.Modules // last, since making the agent takes as long as loading some of them
	l, err := ep.listen()
	if err != nil {
		return err
	}
	log.Debug("listening", "addr", l.Addr(), "init", place.Timeline.Init, "main", place.Timeline.Main, "booted", place.Timeline.Booted, "listen", boot.Now())
	return a.Serve(ctx, l)
}
