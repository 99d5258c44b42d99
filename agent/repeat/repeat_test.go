package repeat

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func response(pid uint32) *pb.Response {
	return &pb.Response{What: &pb.Response_Started{Started: &pb.Started{Pid: pid}}}
}

func noProgress(*pb.Response) error { return nil }

// value is a Func that succeeds.
func value(pid uint32) Func {
	return func(context.Context, func(*pb.Response)) (*pb.Response, error) { return response(pid), nil }
}

// do does a key once and gives the pid of the result.
func do(t *testing.T, l *Log, key Key, f Func) (uint32, error) {
	t.Helper()
	resp, err := l.Do(t.Context(), key, noProgress, f)
	return resp.GetStarted().GetPid(), err
}

func end(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(context.Background()); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func TestResultIsRepeated(t *testing.T) {
	l := NewLog()
	defer end(t, l)
	key := Key{ID: ID{1}, Op: Start, Object: "web"}
	for range 3 {
		if pid, err := do(t, l, key, value(7)); pid != 7 || err != nil {
			t.Fatalf("Do() = %d, %v; want 7", pid, err)
		}
		if pid, err := do(t, l, key, value(8)); pid != 7 || err != nil {
			t.Fatalf("repeated Do() = %d, %v; want the first result, 7", pid, err)
		}
	}
	for _, other := range []Key{{ID: ID{1}, Op: Kill, Object: "web"}, {ID: ID{1}, Op: Start, Object: "db"}} {
		if _, err := do(t, l, other, value(9)); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Do(%v) = %v; want invalid argument", other, err)
		}
	}
	l.Forget("web")
	if pid, _ := do(t, l, key, value(8)); pid != 8 {
		t.Errorf("Do() after Forget = %d; want a new attempt, 8", pid)
	}
}

func TestFailureIsTriedAgain(t *testing.T) {
	l := NewLog()
	defer end(t, l)
	key := Key{ID: ID{1}, Op: Create, Object: "web"}
	oops := errors.New("oops")
	if _, err := do(t, l, key, func(context.Context, func(*pb.Response)) (*pb.Response, error) { return nil, oops }); !errors.Is(err, oops) {
		t.Fatalf("Do() = %v; want %v", err, oops)
	}
	if pid, err := do(t, l, key, value(7)); pid != 7 || err != nil {
		t.Errorf("Do() after a failure = %d, %v; want 7", pid, err)
	}
}

// TestJoin has several callers of one attempt: each sees all progress and the result, and one that leaves does not cancel it.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		defer end(t, l)
		key := Key{ID: ID{1}, Op: Create, Object: "web"}
		release := make(chan struct{})
		runs := 0
		f := func(ctx context.Context, progress func(*pb.Response)) (*pb.Response, error) {
			runs++
			progress(response(1))
			<-release
			progress(response(2))
			return response(3), ctx.Err()
		}
		leaving, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := l.Do(leaving, key, noProgress, f)
			left <- err
		}()
		synctest.Wait()
		const joiners = 3
		results := make(chan []uint32, joiners)
		for range joiners {
			go func() {
				var seen []uint32
				resp, err := l.Do(t.Context(), key, func(r *pb.Response) error {
					seen = append(seen, r.GetStarted().Pid)
					return nil
				}, f)
				if err != nil {
					t.Errorf("joined Do() = %v; want success", err)
				}
				results <- append(seen, resp.GetStarted().GetPid())
			}()
		}
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("Do() of who left = %v; want canceled", err)
		}
		close(release)
		for range joiners {
			if seen := <-results; len(seen) != 3 || seen[0] != 1 || seen[1] != 2 || seen[2] != 3 {
				t.Errorf("progress and result = %v; want 1, 2, 3", seen)
			}
		}
		if runs != 1 {
			t.Errorf("the operation ran %d times; want once", runs)
		}
	})
}

// TestLostConnection ends the callers' contexts since their connections broke: the attempt goes on, and the repeat gets its result. One that is cancelled then still ends it.
func TestLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		defer end(t, l)
		key := Key{ID: ID{1}, Op: Create, Object: "web"}
		ctx, lose := context.WithCancelCause(t.Context())
		release := make(chan struct{})
		first := make(chan error, 1)
		go func() {
			unheard := func(*pb.Response) error { return errors.New("nobody reads") }
			_, err := l.Do(ctx, key, unheard, func(ctx context.Context, progress func(*pb.Response)) (*pb.Response, error) {
				progress(response(1))
				select {
				case <-release:
					return response(7), nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})
			first <- err
		}()
		synctest.Wait()
		lose(failure.ErrConnectionLost)
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("Do() of a lost connection = %v; want context.Canceled", err)
		}
		again := make(chan uint32, 1)
		go func() {
			pid, err := do(t, l, key, value(8))
			if err != nil {
				t.Errorf("repeated Do() = %v; want success", err)
			}
			again <- pid
		}()
		synctest.Wait()
		close(release)
		if pid := <-again; pid != 7 {
			t.Errorf("repeated Do() = %d; want 7, of the attempt that went on", pid)
		}
	})
}

// TestAbandoned cancels an attempt that everybody left. Who comes before it is over waits and gets its result if it was too late to roll it back, else tries again.
func TestAbandoned(t *testing.T) {
	for _, tt := range []struct {
		name      string
		committed bool
		want      uint32
	}{{"rolled back", false, 8}, {"committed", true, 7}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLog()
				defer end(t, l)
				key := Key{ID: ID{1}, Op: Create, Object: "web"}
				ctx, cancel := context.WithCancel(t.Context())
				cancelled, release := make(chan struct{}), make(chan struct{})
				go func() {
					_, _ = l.Do(ctx, key, noProgress, func(ctx context.Context, _ func(*pb.Response)) (*pb.Response, error) {
						<-ctx.Done()
						close(cancelled)
						<-release
						if tt.committed {
							return response(7), nil
						}
						return nil, ctx.Err()
					})
				}()
				synctest.Wait()
				cancel()
				<-cancelled
				again := make(chan uint32, 1)
				go func() {
					pid, err := do(t, l, key, value(8))
					if err != nil {
						t.Errorf("repeated Do() = %v; want success", err)
					}
					again <- pid
				}()
				synctest.Wait()
				close(release)
				if pid := <-again; pid != tt.want {
					t.Errorf("repeated Do() = %d; want %d", pid, tt.want)
				}
			})
		})
	}
}

func TestCloseCancelsAndJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		ended := false
		go func() {
			_, err := l.Do(t.Context(), Key{ID: ID{1}, Op: Start, Object: "web"}, noProgress, func(ctx context.Context, _ func(*pb.Response)) (*pb.Response, error) {
				<-ctx.Done()
				ended = true
				return nil, ctx.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Do() = %v; want canceled", err)
			}
		}()
		synctest.Wait()
		end(t, l)
		if !ended {
			t.Error("Close() returned before the operation did")
		}
	})
}

// TestCloseGivesUp on an operation that cannot be cancelled.
func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		release := make(chan struct{})
		go func() {
			_, _ = l.Do(t.Context(), Key{ID: ID{1}, Op: Start, Object: "web"}, noProgress, func(context.Context, func(*pb.Response)) (*pb.Response, error) {
				<-release
				return response(1), nil
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close() = %v; want deadline exceeded", err)
		}
		close(release)
	})
}

func TestResultsAreBounded(t *testing.T) {
	l := NewLog()
	defer end(t, l)
	id := func(i int) ID { return ID{byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := range MaxKept + 5 {
		_, _ = do(t, l, Key{ID: id(i), Op: []Op{Kill, Pause, Resume}[i%3], Object: "web"}, value(1))
	}
	if n := len(l.entries); n != MaxKept {
		t.Errorf("%d results after %d kills, pauses and resumes; want %d", n, MaxKept+5, MaxKept)
	}
	if pid, _ := do(t, l, Key{ID: id(0), Op: Kill, Object: "web"}, value(2)); pid != 2 {
		t.Errorf("Do() of a forgotten kill = %d; want a new attempt, 2", pid)
	}
	l.Forget("web")
	if n := len(l.entries) + len(l.objects); n != 0 {
		t.Errorf("%d entries after Forget; want none", n)
	}
	for i := range protocol.MaxRememberedDelete + 5 {
		_, _ = do(t, l, Key{ID: id(i), Op: Delete, Object: "web"}, value(1))
	}
	if n := len(l.entries); n != protocol.MaxRememberedDelete {
		t.Errorf("%d results after many deletes; want %d", n, protocol.MaxRememberedDelete)
	}
}

func TestParseID(t *testing.T) {
	for _, n := range []int{0, 1, 15, 17, 1 << 16} {
		if _, err := ParseID(make([]byte, n)); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("ParseID(%d bytes) = %v; want invalid argument", n, err)
		}
	}
	if id, err := ParseID([]byte("0123456789abcdef")); err != nil || string(id[:]) != "0123456789abcdef" {
		t.Errorf("ParseID(16 bytes) = %v, %v; want them", id, err)
	}
}
