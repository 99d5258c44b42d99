package hostclient

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Process is a process in the guest. [Client.NewProcess] describes a new one, which Create and Start, or Launch for both at once, bring to life; [Client.Attach]
// gives one that exists. Whoever has one ends it with Delete, also after a failed Create or Start. Its methods may be called from any goroutine.
type Process struct {
	client *Client
	cfg    ProcessConfig
	id     string
	log    *slog.Logger
	stdio  *stdio // nil without connected streams; set by Create, and read only after it

	turn chan struct{} // holds one element while Create, Start, Launch or Delete goes on

	// Request ids, so that a repeat does nothing twice (SPEC 4).
	createID, startID, deleteID instanceID

	guest instanceID // the agent's life in which it was created; set by the first Create that is sent

	life context.Context // ends with release
	end  context.CancelCauseFunc
	wg   sync.WaitGroup // the goroutines of this process

	exitSeen chan struct{} // closed when the watch has told that there is something to wait for

	mu       sync.Mutex
	state    processState
	pid      int
	waiting  *waiting // nil until somebody waits
	released bool
	endSeen  bool // exitSeen is closed
}

// processState is what this object knows, not what the guest does.
type processState int

const (
	stateNew     processState = iota
	stateFailed               // Create failed for certain: the guest has nothing
	stateUnknown              // Create was begun and has no answer
	stateCreated
	stateStarted
	stateDeleted
)

// NewProcess describes a process. Nothing happens before Create or Launch; what can be seen to be wrong is an error here that wraps
// errdefs.ErrInvalidArgument.
func (c *Client) NewProcess(cfg ProcessConfig) (*Process, error) {
	if cfg.ID == "" {
		cfg.ID = madeUpID()
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("cannot describe process %s: %w", cfg.ID, err)
	}
	return c.newProcess(cfg), nil
}

func madeUpID() string {
	id := newID()
	return "p" + hex.EncodeToString(id[:8])
}

func (c *Client) newProcess(cfg ProcessConfig) *Process {
	cfg.Stdout, cfg.Stderr = oneAtATime(cfg.Stdout, cfg.Stderr)
	p := &Process{
		client:   c,
		cfg:      cfg,
		id:       cfg.ID,
		log:      cfg.Logger,
		turn:     make(chan struct{}, 1),
		createID: newID(),
		startID:  newID(),
		deleteID: newID(),
		exitSeen: make(chan struct{}),
		pid:      -1,
	}
	if p.log == nil {
		p.log = c.cfg.Logger
	}
	p.life, p.end = context.WithCancelCause(context.Background())
	return p
}

// ID gives the process's name in the guest.
func (p *Process) ID() string { return p.id }

// Pid gives the process's number in the guest's first pid namespace, -1 before it is started.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Kill sends a signal to the process. A process that has exited is errdefs.ErrFailedPrecondition, one that is deleted errdefs.ErrNotFound.
func (p *Process) Kill(ctx context.Context, sig Signal) error { return p.kill(ctx, sig, false) }

// KillAll sends a signal to every process of the container whose first process this is.
func (p *Process) KillAll(ctx context.Context, sig Signal) error { return p.kill(ctx, sig, true) }

func (p *Process) kill(ctx context.Context, sig Signal, all bool) error {
	requestID := newID()
	return p.do(ctx, operation{
		what:    fmt.Sprintf("send %v to process %s", sig, p.id),
		request: &pb.Request{Op: &pb.Request_Kill{Kill: &pb.Kill{RequestId: requestID[:], Id: p.id, Signal: uint32(sig), All: all}}},
		repeat:  true,
		result:  expect((*pb.Response).GetKilled, nil),
	})
}

// Resize sets the size of the process's terminal, 0 to 65,535 each way. A process without one is errdefs.ErrFailedPrecondition.
func (p *Process) Resize(ctx context.Context, columns, rows int) error {
	what := "resize the terminal of process " + p.id
	size, err := sizeMessage(columns, rows)
	if err != nil {
		return operationError(what, err)
	}
	return p.do(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_Resize{Resize: &pb.Resize{Id: p.id, Size: size}}},
		repeat:  true,
		result:  expect((*pb.Response).GetResized, nil),
	})
}

// CloseStdin ends the process's input before the Reader does. Everything arrives that the Reader gave before its last Read was called; what that Read gives, if it is still
// going on, is dropped, and there is no other. Whoever wants to lose nothing ends the Reader instead, or closes the pipe of StdinPipe.
func (p *Process) CloseStdin(ctx context.Context) error {
	what := "close the input of process " + p.id
	if err := p.exists(); err != nil {
		return operationError(what, err)
	}
	if p.connected(Stdin) {
		p.stdio.set.CloseStdin() // the end goes in band, behind the last byte
		return nil
	}
	return p.do(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_CloseStdin{CloseStdin: &pb.CloseStdin{Id: p.id}}},
		repeat:  true,
		result:  expect((*pb.Response).GetStdinClosed, nil),
	})
}

// do performs an operation on a process that the guest has.
func (p *Process) do(ctx context.Context, op operation) error {
	if err := p.exists(); err != nil {
		return operationError(op.what, err)
	}
	op.guest = &p.guest
	return p.client.call(ctx, op)
}

// exists fails unless Create has succeeded and Delete has not.
func (p *Process) exists() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case stateCreated, stateStarted:
		return nil
	case stateDeleted:
		return errDeleted
	}
	return precondition("the process is not created")
}

var errDeleted = fmt.Errorf("the process is deleted: %w", errdefs.ErrNotFound)

// lock waits for this caller's turn to change the process's life.
func (p *Process) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *Process) setState(s processState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

func (p *Process) setStarted(s *pb.Started) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = stateStarted
	p.pid = int(s.GetPid())
}

func (p *Process) currentState() processState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// spawn runs f in a goroutine that release joins. It reports false, and runs nothing, when the process is released.
func (p *Process) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return false
	}
	p.wg.Go(f)
	return true
}

// release gives back what the host has for this process: connections, goroutines, its place with the client. What waits ends with reason. The
// guest is not told.
func (p *Process) release(reason error) {
	p.mu.Lock()
	p.released = true
	p.mu.Unlock()
	p.end(reason)
	if p.stdio != nil {
		p.stdio.set.Close()
	}
	p.wg.Wait()
	p.client.untrack(p)
}

// ended takes the watch's word that the process has exited, or is no more.
func (p *Process) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.endSeen {
		p.endSeen = true
		close(p.exitSeen)
	}
}

// observe takes the watch's description of the process.
func (p *Process) observe(info *pb.ProcessInfo) {
	if info.GetState() == pb.State_STATE_EXITED {
		p.ended()
	}
	for _, s := range info.GetStreams() {
		// An output that has ended is not done while the guest lacks our word that we have the end: nobody hears that all is drained then.
		if !s.GetAttached() && !s.GetDone() && !s.GetDirect() {
			p.streamLost(s.GetStream(), s.GetGeneration())
		}
	}
}

// Delete removes an exited, or never started, process and its exit status from the guest, closes the host's resources for it, and calls OnDelete. Deleting twice is no
// error, nor is it one if another client did it or the guest was restarted. A running process is errdefs.ErrFailedPrecondition. After an error it may be tried again.
func (p *Process) Delete(ctx context.Context) error {
	_, err := p.delete(ctx, false)
	return err
}

// ForceDelete is Delete for a process in any state: it is killed first. A container, or a process outside containers, ends with everything in its cgroup; of a
// process in a container, the descendants that live on are returned.
func (p *Process) ForceDelete(ctx context.Context) (survivors []Holder, err error) {
	return p.delete(ctx, true)
}

func (p *Process) delete(ctx context.Context, force bool) ([]Holder, error) {
	unlock, err := p.lock(ctx)
	if err != nil {
		return nil, operationError("delete process "+p.id, err)
	}
	defer unlock()
	var deleted *pb.Deleted
	switch p.currentState() {
	case stateDeleted:
		return nil, nil
	case stateUnknown, stateCreated, stateStarted:
		if deleted, err = p.deleteInGuest(ctx, force); err != nil {
			if p.client.life.Err() != nil {
				p.release(err) // no guest will be asked again
			}
			return nil, err
		}
	}
	p.setState(stateDeleted)
	p.release(errDeleted)
	if p.cfg.OnDelete != nil {
		p.cfg.OnDelete()
	}
	return holders(deleted.GetSurvivors()), nil
}

// deleteInGuest succeeds if the guest does not have the process afterwards, for whatever reason.
func (p *Process) deleteInGuest(ctx context.Context, force bool) (*pb.Deleted, error) {
	var deleted *pb.Deleted
	err := p.client.call(ctx, operation{
		what:    "delete process " + p.id,
		request: &pb.Request{Op: &pb.Request_Delete{Delete: &pb.Delete{RequestId: p.deleteID[:], Id: p.id, Force: force}}},
		repeat:  true,
		guest:   &p.guest,
		result:  expect((*pb.Response).GetDeleted, &deleted),
	})
	if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, ErrGuestRestarted) {
		return nil, nil
	}
	return deleted, err
}
