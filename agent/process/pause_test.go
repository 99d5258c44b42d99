package process

import (
	"context"
	"errors"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// pausable makes a container that runs, with an exec that runs and one that does not.
func pausable(t *testing.T, table *Table, task *fakeTask) (container, running, created *Process) {
	t.Helper()
	container = add(t, table, Config{ID: "web", IsContainer: true}, task)
	running = add(t, table, Config{ID: "job", Parent: container}, &fakeTask{})
	created = add(t, table, Config{ID: "later", Parent: container}, &fakeTask{})
	for _, p := range []*Process{container, running} {
		if _, err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return container, running, created
}

func TestPause(t *testing.T) {
	container, running, created := pausable(t, newTable(), &fakeTask{})
	check := func(when string, want ...pb.State) {
		t.Helper()
		for i, p := range []*Process{container, running, created} {
			if got := stateOf(p); got != want[i] {
				t.Errorf("%s: %s is %v; want %v", when, p.ID(), got, want[i])
			}
		}
	}
	if err := container.Resume(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Resume() of a running container = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := container.Pause(t.Context()); err != nil {
		t.Fatalf("Pause() = %v; want no error", err)
	}
	check("paused", pb.State_STATE_PAUSED, pb.State_STATE_PAUSED, pb.State_STATE_CREATED)
	if err := container.Pause(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Pause() again = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if _, err := container.Delete(t.Context(), false); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Delete() of a paused container = %v; want errdefs.ErrFailedPrecondition", err)
	}
	if err := container.Resume(t.Context()); err != nil {
		t.Errorf("Resume() = %v; want no error", err)
	}
	check("resumed", pb.State_STATE_RUNNING, pb.State_STATE_RUNNING, pb.State_STATE_CREATED)
	if err := running.Pause(t.Context()); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Pause() of an exec = %v; want errdefs.ErrInvalidArgument", err)
	}
}

// TestPauseAtTheWrongTime pauses containers that do not run.
func TestPauseAtTheWrongTime(t *testing.T) {
	table := newTable()
	container := add(t, table, Config{ID: "web", IsContainer: true}, &fakeTask{})
	refused := func(when string, kind error) {
		t.Helper()
		if err := container.Pause(t.Context()); !errors.Is(err, kind) {
			t.Errorf("Pause() of a container that %s = %v; want %v", when, err, kind)
		}
	}
	refused("has not been started", errdefs.ErrFailedPrecondition)
	if _, err := container.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	container.Exited(Exit{})
	refused("has exited", errdefs.ErrFailedPrecondition)
	if _, err := container.Delete(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	refused("is deleted", errdefs.ErrNotFound)
}

// TestFailedPause has a pause fail: the container runs on, and can be paused again.
func TestFailedPause(t *testing.T) {
	failing := errors.New("no pausing today")
	task := &fakeTask{pause: func(context.Context) error { return failing }}
	container, _, _ := pausable(t, newTable(), task)
	if err := container.Pause(t.Context()); !errors.Is(err, failing) {
		t.Errorf("Pause() = %v; want the task's error", err)
	}
	if got := stateOf(container); got != pb.State_STATE_RUNNING {
		t.Errorf("after a failed pause: %v; want it running", got)
	}
	task.pause = nil
	if err := container.Pause(t.Context()); err != nil {
		t.Errorf("Pause() again = %v; want no error", err)
	}
}

// TestDeleteInterruptsPause deletes a container whose pause does not come to an end.
func TestDeleteInterruptsPause(t *testing.T) {
	begun := make(chan struct{})
	task := &fakeTask{pause: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}}
	container, _, _ := pausable(t, newTable(), task)
	paused := make(chan error)
	go func() { paused <- container.Pause(context.Background()) }()
	<-begun
	if _, err := container.Delete(t.Context(), true); err != nil {
		t.Errorf("Delete(force) during a pause = %v; want no error", err)
	}
	if err := <-paused; !errors.Is(err, context.Canceled) {
		t.Errorf("the pause = %v; want it cancelled", err)
	}
}

// TestPauseEvents has a watcher see the container and its execs stand still and go on.
func TestPauseEvents(t *testing.T) {
	table := newTable()
	container, _, _ := pausable(t, table, &fakeTask{})
	w, err := table.Hub().Watch(false)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for {
		e, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e.GetSynced() != nil {
			break
		}
	}
	for _, step := range []struct {
		do   func(context.Context) error
		want pb.State
	}{{container.Pause, pb.State_STATE_PAUSED}, {container.Resume, pb.State_STATE_RUNNING}} {
		if err := step.do(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]pb.State)
		for range 3 {
			e, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			seen[e.GetProcess().GetId()] = e.GetProcess().GetState()
		}
		if seen["web"] != step.want || seen["job"] != step.want || seen["later"] != pb.State_STATE_CREATED {
			t.Errorf("events: %v; want the container and its running exec %v", seen, step.want)
		}
	}
}
