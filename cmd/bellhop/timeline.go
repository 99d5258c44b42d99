package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// timeline collects when what happened, for --timeline.
type timeline struct {
	start time.Time // of QEMU

	mu     sync.Mutex
	events []event
	wrote  bool
}

type event struct {
	what string
	at   time.Time
}

func (t *timeline) mark(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, event{what, time.Now()})
}

// first gives a writer that marks the first byte of all output.
func (t *timeline) first(w io.Writer) io.Writer { return &firstWrite{t: t, w: w} }

type firstWrite struct {
	t *timeline
	w io.Writer
}

func (f *firstWrite) Write(b []byte) (int, error) {
	f.t.mu.Lock()
	if !f.t.wrote {
		f.t.wrote = true
		f.t.events = append(f.t.events, event{"first byte", time.Now()})
	}
	f.t.mu.Unlock()
	return f.w.Write(b)
}

// print writes the timeline, with what the guest tells of its own boot. The guest's clock is set against ours by the moment of its answer.
func (t *timeline) print(w io.Writer, m *machine) {
	ctx, cancel := context.WithTimeout(context.Background(), forwardTimeout)
	defer cancel()
	sent := time.Now()
	info, err := m.client.Info(ctx)
	if err != nil {
		fmt.Fprintf(w, "bellhop: no timeline: %v\n", err)
		return
	}
	asked := sent.Add(time.Since(sent) / 2)
	kernel := asked.Add(-info.Timeline.Now)
	events := append(slices.Clone(t.events),
		event{"QEMU started", t.start},
		event{"kernel started", kernel},
		event{"PID 1", kernel.Add(info.Timeline.Init)},
		event{"agent main", kernel.Add(info.Timeline.Main)},
		event{"agent listens", kernel.Add(info.Timeline.Listen)},
		event{"hello", kernel.Add(info.Timeline.Hello)},
	)
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	for _, e := range events {
		fmt.Fprintf(w, "%9.1f ms  %s\n", float64(e.at.Sub(t.start))/1e6, e.what)
	}
}
