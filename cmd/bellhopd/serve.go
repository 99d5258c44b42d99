//go:build linux && cgo

package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/bellhop-vm/bellhop/agent"
	"github.com/bellhop-vm/bellhop/agent/boot"
)

// serve runs the agent on ep, which it closes, until ctx ends. The error is
// agent.ErrPowerOff or agent.ErrReboot when a client asked for that.
func serve(ctx context.Context, place *boot.Result, ep *endpoint, listening time.Duration, log *slog.Logger) error {
	a, err := agent.New(agent.Config{
		Dial:       ep.dial,
		AllowPeer:  ep.allow,
		CgroupRoot: place.CgroupRoot,
		Logger:     log,
		Instance:   place.Instance,
		Software:   "bellhopd " + version,
		PID1:       place.PID1,
		Timeline:   agent.Timeline{Init: place.Timeline.Init, Main: place.Timeline.Main, Listen: listening},
	})
	if err != nil {
		return errors.Join(err, ep.listener.Close())
	}
	log.Debug("listening", "addr", ep.listener.Addr(), "init", place.Timeline.Init, "main", place.Timeline.Main, "booted", place.Timeline.Booted, "listen", listening)
	err = a.Serve(ctx, ep.listener)
	if closing := a.Close(); closing != nil {
		log.Warn("cannot end cleanly", "err", closing)
	}
	return err
}
