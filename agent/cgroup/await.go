//go:build linux

package cgroup

import "context"

// await waits until cond holds, looking again each time that the kernel says that cgroup.events has changed.
func (g *Group) await(ctx context.Context, cond func() (bool, error)) error {
	if ok, err := cond(); ok || err != nil {
		return err
	}
	w, err := g.tree.notifier.add(g.file("cgroup.events"))
	if err != nil {
		if ok, _ := cond(); ok { // the group went away meanwhile
			return nil
		}
		return err
	}
	defer w.close()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-w.c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WatchOOM calls f, from a goroutine of its own, each time that the kernel has killed a process of the group or beneath for lack of memory. The function that it gives ends
// that, and joins the goroutine. Without the memory controller f is never called.
func (g *Group) WatchOOM(f func()) (stop func()) {
	w, err := g.tree.notifier.add(g.file("memory.events"))
	if err != nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for seen := uint64(0); ; {
			select {
			case <-w.c:
			case <-quit:
				return
			}
			if n := g.OOMKills(); n > seen { // the file changes for other reasons too
				seen = n
				f()
			}
		}
	}()
	return func() {
		w.close()
		close(quit)
		<-done
	}
}
