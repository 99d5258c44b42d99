//go:build linux

package container

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestTurns has all turns taken.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := make(turns, 2)
		first, _ := turns.take(t.Context(), nil)
		second, _ := turns.take(t.Context(), nil)
		defer second()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := turns.take(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("take() of a caller that gives up = %v; want %v", err, context.DeadlineExceeded)
		}
		hooks := &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}
		if done, err := turns.take(ctx, hooks); done == nil {
			t.Errorf("take() with hooks = %v; want no wait", err)
		}
		start := time.Now()
		if _, err := turns.take(t.Context(), nil); err != nil || time.Since(start) != turnBound {
			t.Errorf("take() = %v after %v; want no error after %v", err, time.Since(start), turnBound)
		}
		time.AfterFunc(time.Second, first)
		start = time.Now()
		if done, err := turns.take(t.Context(), nil); err != nil || time.Since(start) != time.Second {
			t.Errorf("take() = %v after %v; want that of the one who is done after 1 s", err, time.Since(start))
		} else {
			done()
		}
	})
}
