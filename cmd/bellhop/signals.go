package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// insistence is how many interrupts or terminations end Bellhop itself, if the process does not end by them.
const insistence = 3

// forwardTimeout bounds the call that passes on one signal.
const forwardTimeout = 10 * time.Second

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return fmt.Sprintf("ended by signal: %v", e.signal) }

func isSignal(err error) bool {
	_, ok := err.(*signalError)
	return ok
}

// signals receives this program's signals: until a process runs they end the program, then they are the process's.
type signals struct {
	c      chan os.Signal
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	deliver func(syscall.Signal) // nil: nothing runs yet
	done    chan struct{}
}

// watchSignals begins to receive; cancel is called when a signal ends the program.
func watchSignals(cancel context.CancelCauseFunc) *signals {
	s := &signals{c: make(chan os.Signal, 16), cancel: cancel, done: make(chan struct{})}
	signal.Notify(s.c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	go s.loop()
	return s
}

func (s *signals) loop() {
	defer close(s.done)
	ending := 0
	for sig := range s.c {
		n := sig.(syscall.Signal)
		s.mu.Lock()
		deliver := s.deliver
		s.mu.Unlock()
		if n == syscall.SIGINT || n == syscall.SIGTERM {
			ending++
		}
		switch {
		case deliver != nil && ending < insistence:
			deliver(n)
		case n == syscall.SIGWINCH || n == syscall.SIGUSR1 || n == syscall.SIGUSR2:
			// Nothing runs that it could be for.
		default:
			s.cancel(&signalError{n})
		}
	}
}

// stop ends and joins the receiver.
func (s *signals) stop() {
	signal.Stop(s.c)
	close(s.c)
	<-s.done
}

// forward passes signals on to p, and changes of the terminal's size, until the returned function is called.
func (s *signals) forward(ctx context.Context, p *hostclient.Process, cfg *config) (stop func()) {
	s.set(func(sig syscall.Signal) {
		ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
		defer cancel()
		var err error
		if sig == syscall.SIGWINCH {
			err = resize(ctx, p, cfg)
		} else {
			err = p.Kill(ctx, hostclient.Signal(sig))
		}
		if err != nil {
			cfg.logger().Debug("cannot pass a signal on", "signal", sig, "err", err)
		}
	})
	return func() { s.set(nil) }
}

func (s *signals) set(deliver func(syscall.Signal)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliver = deliver
}

// resize gives the process's terminal the size of the user's.
func resize(ctx context.Context, p *hostclient.Process, cfg *config) error {
	fd := int(cfg.stdin.Fd())
	if !cfg.terminal || !term.IsTerminal(fd) {
		return nil
	}
	columns, rows, err := term.GetSize(fd)
	if err != nil {
		return err
	}
	return p.Resize(ctx, columns, rows)
}
