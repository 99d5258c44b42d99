//go:build linux

package container

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurns has all turns taken.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := make(turns, 2)
		first, _ := turns.take(t.Context())
		second, _ := turns.take(t.Context())

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := turns.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("take() of a caller that gives up = %v; want %v", err, context.DeadlineExceeded)
		}
		start := time.Now()
		if _, err := turns.take(t.Context()); err != nil || time.Since(start) != turnBound {
			t.Errorf("take() = %v after %v; want no error after %v", err, time.Since(start), turnBound)
		}
		time.AfterFunc(time.Second, first)
		start = time.Now()
		if done, err := turns.take(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("take() = %v after %v; want that of the one who is done after 1 s", err, time.Since(start))
		} else {
			done()
		}
		first() // again, which gives back no other's
		if len(turns) != 1 {
			t.Errorf("%d turns are taken; want that of the second", len(turns))
		}
		second()
	})
}
