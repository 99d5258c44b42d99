package hostclient

import (
	"fmt"
	"sync"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fakeTable is the part of the fake guest that remembers processes, which are entries in a map and nothing more. It counts what it does, so that tests see what was done
// twice. The zero value is ready.
type fakeTable struct {
	// script, if not nil, sees each call first, and reports that it has answered.
	script func(*fakeCall) bool

	mu        sync.Mutex
	processes map[string]*fakeProcess
	results   map[string]*pb.Response // by request id
	done      map[string]int          // "create web": how often
	changed   chan struct{}           // closed when a process changes
}

type fakeProcess struct {
	info   pb.ProcessInfo
	stdio  []*pb.Stdio
	create *pb.Create
}

func (f *fakeTable) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.processes, f.results = nil, nil
}

// times says how often something was done, as "start web".
func (f *fakeTable) times(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done[what]
}

// exit ends a process.
func (f *fakeTable) exit(id string, e *pb.Exited) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.processes[id]
	if p == nil {
		return // deleted
	}
	p.info.State, p.info.Exited = pb.State_STATE_EXITED, e
	f.wake()
}

func (f *fakeTable) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *fakeTable) serve(c *fakeCall) {
	if f.script != nil && f.script(c) {
		return
	}
	switch op := c.req.Op.(type) {
	case *pb.Request_Ping:
		c.result(pong())
	case *pb.Request_Info:
		c.result(&pb.Response{What: &pb.Response_Info{Info: &pb.GuestInfo{Software: "fake guest", Cpus: 2}}})
	case *pb.Request_Create:
		f.create(c, op.Create)
	case *pb.Request_Start:
		f.once(c, op.Start.RequestId, "start "+op.Start.Id, op.Start.Id, f.start)
	case *pb.Request_Kill:
		f.once(c, op.Kill.RequestId, "kill "+op.Kill.Id, op.Kill.Id, func(p *fakeProcess) (*pb.Response, error) {
			if p.info.State == pb.State_STATE_EXITED {
				return nil, fakeError(pb.Code_CODE_FAILED_PRECONDITION, "it has exited")
			}
			p.info.State, p.info.Exited = pb.State_STATE_EXITED, &pb.Exited{Signal: op.Kill.Signal}
			return &pb.Response{What: &pb.Response_Killed{Killed: &pb.Killed{}}}, nil
		})
	case *pb.Request_Delete:
		f.once(c, op.Delete.RequestId, "delete "+op.Delete.Id, op.Delete.Id, func(p *fakeProcess) (*pb.Response, error) {
			if p.info.State == pb.State_STATE_RUNNING && !op.Delete.Force {
				return nil, fakeError(pb.Code_CODE_FAILED_PRECONDITION, "it is running")
			}
			delete(f.processes, op.Delete.Id)
			return &pb.Response{What: &pb.Response_Deleted{Deleted: &pb.Deleted{}}}, nil
		})
	case *pb.Request_Wait:
		f.wait(c, op.Wait.Id, op.Wait.ExitOnly)
	case *pb.Request_List:
		c.result(f.list())
	case *pb.Request_Watch:
		f.watch(c, op.Watch.LossesOnly)
	case *pb.Request_Mount:
		f.note("mount " + op.Mount.Target)
		c.result(&pb.Response{What: &pb.Response_Mounted{Mounted: &pb.Mounted{}}})
	case *pb.Request_Resize:
		c.result(&pb.Response{What: &pb.Response_Resized{Resized: &pb.Resized{}}})
	case *pb.Request_CloseStdin:
		c.result(&pb.Response{What: &pb.Response_StdinClosed{StdinClosed: &pb.StdinClosed{}}})
	case *pb.Request_Unmount:
		c.result(&pb.Response{What: &pb.Response_Unmounted{Unmounted: &pb.Unmounted{}}})
	case *pb.Request_PrepareRootfs:
		f.note("prepare " + op.PrepareRootfs.Id)
		c.result(&pb.Response{What: &pb.Response_RootfsPrepared{RootfsPrepared: &pb.RootfsPrepared{Path: "/rootfs/" + op.PrepareRootfs.Id}}})
	case *pb.Request_RemoveRootfs:
		f.note("remove " + op.RemoveRootfs.Id)
		c.result(&pb.Response{What: &pb.Response_RootfsRemoved{RootfsRemoved: &pb.RootfsRemoved{}}})
	case *pb.Request_ListRootfs:
		c.progress(&pb.Response{What: &pb.Response_RootfsListed{RootfsListed: &pb.RootfsListed{Rootfs: []*pb.RootfsInfo{{Id: "a", Path: "/rootfs/a", Containers: 2}}}}})
		c.result(&pb.Response{What: &pb.Response_RootfsListed{RootfsListed: &pb.RootfsListed{Rootfs: []*pb.RootfsInfo{{Id: "b", Path: "/rootfs/b"}}}}})
	case *pb.Request_Shutdown:
		c.result(&pb.Response{What: &pb.Response_ShuttingDown{ShuttingDown: &pb.ShuttingDown{}}})
	default:
		c.fail(pb.Code_CODE_UNIMPLEMENTED, fmt.Sprintf("the fake guest has no %T", op))
	}
}

func (f *fakeTable) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteLocked(what)
}

func (f *fakeTable) noteLocked(what string) {
	if f.done == nil {
		f.done = make(map[string]int)
	}
	f.done[what]++
}

func fakeError(code pb.Code, message string) error {
	return &protocol.StatusError{PB: &pb.Error{Code: code, Message: message}}
}

// once does what a request asks for, or gives the result that its id had before.
func (f *fakeTable) once(c *fakeCall, requestID []byte, what, id string, do func(*fakeProcess) (*pb.Response, error)) {
	r, err := f.onceLocked(requestID, what, id, do)
	if err != nil {
		c.send(protocol.KindError, err.(*protocol.StatusError).PB)
		return
	}
	c.result(r)
}

func (f *fakeTable) onceLocked(requestID []byte, what, id string, do func(*fakeProcess) (*pb.Response, error)) (*pb.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.results[string(requestID)]; r != nil {
		return r, nil
	}
	p := f.processes[id]
	if p == nil {
		return nil, fakeError(pb.Code_CODE_NOT_FOUND, "no process "+id)
	}
	r, err := do(p)
	if err == nil {
		f.noteLocked(what)
		f.remember(requestID, r)
		f.wake()
	}
	return r, err
}

func (f *fakeTable) remember(requestID []byte, r *pb.Response) {
	if f.results == nil {
		f.results = make(map[string]*pb.Response)
	}
	f.results[string(requestID)] = r
}

func (f *fakeTable) create(c *fakeCall, create *pb.Create) {
	r, err := f.createLocked(create)
	if err != nil {
		c.send(protocol.KindError, err.(*protocol.StatusError).PB)
		return
	}
	if !create.Wait {
		c.result(r)
		return
	}
	c.progress(r)
	f.wait(c, create.Id, false)
}

func (f *fakeTable) createLocked(create *pb.Create) (*pb.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.results[string(create.RequestId)]; r != nil {
		return r, nil
	}
	if f.processes[create.Id] != nil {
		return nil, fakeError(pb.Code_CODE_ALREADY_EXISTS, "process "+create.Id+" exists")
	}
	p := &fakeProcess{create: create, stdio: create.Stdio, info: pb.ProcessInfo{Id: create.Id, State: pb.State_STATE_CREATED}}
	if f.processes == nil {
		f.processes = make(map[string]*fakeProcess)
	}
	f.processes[create.Id] = p
	f.noteLocked("create " + create.Id)
	r := &pb.Response{What: &pb.Response_Created{Created: &pb.Created{Id: create.Id}}}
	if create.Start {
		r, _ = f.start(p)
		f.noteLocked("start " + create.Id)
	}
	f.remember(create.RequestId, r)
	f.wake()
	return r, nil
}

func (f *fakeTable) start(p *fakeProcess) (*pb.Response, error) {
	if p.info.State != pb.State_STATE_CREATED {
		return nil, fakeError(pb.Code_CODE_FAILED_PRECONDITION, "it is started")
	}
	p.info.State, p.info.Pid = pb.State_STATE_RUNNING, 42
	return &pb.Response{What: &pb.Response_Started{Started: &pb.Started{Pid: 42}}}, nil
}

// await waits until cond holds for the process, which is nil if there is none; cond runs locked.
func (f *fakeTable) await(c *fakeCall, id string, cond func(*fakeProcess) bool) bool {
	for {
		f.mu.Lock()
		if cond(f.processes[id]) {
			f.mu.Unlock()
			return true
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-c.ctx.Done():
			return false
		}
	}
}

func (f *fakeTable) wait(c *fakeCall, id string, exitOnly bool) {
	var exited *pb.Exited
	f.note("wait " + id)
	ok := f.await(c, id, func(p *fakeProcess) bool {
		if p != nil {
			exited = p.info.Exited
		}
		return p == nil || p.info.State == pb.State_STATE_EXITED
	})
	switch {
	case !ok:
	case exited == nil:
		c.fail(pb.Code_CODE_NOT_FOUND, "no process "+id)
	case exitOnly:
		c.result(&pb.Response{What: &pb.Response_Exited{Exited: exited}})
	default:
		c.progress(&pb.Response{What: &pb.Response_Exited{Exited: exited}})
		c.result(&pb.Response{What: &pb.Response_Drained{Drained: &pb.Drained{Exited: exited}}})
	}
}

func (f *fakeTable) list() *pb.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := &pb.Listed{}
	for _, p := range f.processes {
		l.Processes = append(l.Processes, p.describe())
	}
	return &pb.Response{What: &pb.Response_Listed{Listed: l}}
}

// describe gives a copy, since the caller sends it after f is unlocked.
func (p *fakeProcess) describe() *pb.ProcessInfo {
	return &pb.ProcessInfo{Id: p.info.Id, State: p.info.State, Pid: p.info.Pid, Exited: p.info.Exited, Streams: p.info.Streams}
}

// watch tells every process at the beginning, and each whose state has changed from then on. No stream is ever lost here.
func (f *fakeTable) watch(c *fakeCall, lossesOnly bool) {
	f.note("watch")
	told := make(map[string]pb.State)
	first := true
	for {
		var events []*pb.Event
		if !f.await(c, "", func(*fakeProcess) bool {
			for id, p := range f.processes {
				if told[id] != p.info.State {
					told[id] = p.info.State
					events = append(events, &pb.Event{What: &pb.Event_Process{Process: p.describe()}})
				}
			}
			for id := range told {
				if f.processes[id] == nil {
					delete(told, id)
					events = append(events, &pb.Event{What: &pb.Event_Deleted{Deleted: &pb.DeletedEvent{Id: id}}})
				}
			}
			return first || len(events) > 0
		}) {
			return
		}
		if first {
			events = append(events, &pb.Event{What: &pb.Event_Synced{Synced: &pb.Synced{}}})
			first = false
		}
		for _, e := range events {
			c.progress(&pb.Response{What: &pb.Response_Event{Event: e}})
		}
		if lossesOnly {
			<-c.ctx.Done()
			return
		}
	}
}
