package repeat

import (
	"context"
	"sync"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// entry is one attempt: going on, or over with a result.
type entry struct {
	key    Key
	cancel context.CancelFunc
	done   chan struct{} // closed when over; resp and err are set before

	// Under Log.mu.
	parties   int
	abandoned bool
	resp      *pb.Response
	err       error

	mu       sync.Mutex
	progress []*pb.Response
	news     chan struct{} // closed and replaced with each progress
}

func (e *entry) over() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// report is the progress function of the attempt.
func (e *entry) report(r *pb.Response) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.progress = append(e.progress, r)
	close(e.news)
	e.news = make(chan struct{})
}

// follow passes the attempt's progress on, from its beginning, and waits for its end. Progress that cannot be told needs no care: then ctx ends soon.
func (e *entry) follow(ctx context.Context, progress func(*pb.Response) error) (*pb.Response, error) {
	for sent := 0; ; {
		over := e.over() // before looking for progress: what came earlier is then sent first
		pending, news := e.since(sent)
		for _, r := range pending {
			_ = progress(r)
		}
		sent += len(pending)
		if over {
			return e.resp, e.err
		}
		select {
		case <-news:
		case <-e.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (e *entry) since(n int) ([]*pb.Response, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.progress[n:len(e.progress):len(e.progress)], e.news
}
