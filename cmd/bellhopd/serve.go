//go:build linux && cgo

package main

import (
	"context"
	"log/slog"
	"net"

	"github.com/bellhop-vm/bellhop/agent/boot"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// serve answers control connections until ctx ends. reboot says that a client
// asked for a reboot.
func serve(ctx context.Context, place *boot.Result, ep *endpoint, log *slog.Logger) (reboot bool, err error) {
	log.Info("listening", "addr", ep.listener.Addr(), "init", place.Timeline.Init, "main", place.Timeline.Main, "booted", place.Timeline.Booted, "now", boot.Now())
	context.AfterFunc(ctx, func() { ep.listener.Close() })
	for {
		conn, err := ep.listener.Accept()
		if ctx.Err() != nil {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		go hello(conn, place)
	}
}

func hello(conn net.Conn, place *boot.Result) {
	defer conn.Close()
	if protocol.WriteHello(conn, &pb.Hello{Software: "bellhopd " + version, Instance: place.Instance[:]}) == nil {
		_, _ = conn.Read(make([]byte, 1))
	}
}
