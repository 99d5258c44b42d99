//go:build linux

package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/process"
	"github.com/bellhop-vm/bellhop/agent/relay"
	"github.com/bellhop-vm/bellhop/agent/repeat"
	"github.com/bellhop-vm/bellhop/agent/spawn"
	"github.com/bellhop-vm/bellhop/agent/speccheck"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// create makes a process, with start runs it, with wait sees it to its end. A repeat joins the making and the start, and then waits for itself.
func (a *Agent) create(ctx context.Context, call *control.Call, req *pb.Create) (*pb.Response, error) {
	if err := checkCreate(req); err != nil {
		return nil, failure.Step(err, "create process %s", req.Id)
	}
	resp, err := a.once(ctx, call, repeat.Create, req.RequestId, req.Id, func(ctx context.Context, progress func(*pb.Response)) (*pb.Response, error) {
		return a.createOnce(ctx, call.Client, req, progress)
	})
	if err != nil || !req.Wait {
		return resp, err
	}
	if err := call.Progress(resp); err != nil {
		return nil, err
	}
	return a.wait(ctx, call, &pb.Wait{Id: req.Id, DrainTimeoutMs: req.DrainTimeoutMs})
}

// checkCreate refuses what needs no look at the guest.
func checkCreate(req *pb.Create) error {
	if _, err := connectBound(req.ConnectTimeoutMs); err != nil {
		return err
	}
	switch {
	case req.Wait && !req.Start:
		return failure.Field("wait", "needs start")
	}
	return process.CheckSize(req.Size)
}

// createOnce is one attempt.
func (a *Agent) createOnce(ctx context.Context, client control.Client, req *pb.Create, progress func(*pb.Response)) (*pb.Response, error) {
	p, err := a.make(ctx, client, req, progress)
	if err != nil {
		return nil, failure.Step(err, "create process %s", req.Id)
	}
	if !req.Start {
		return &pb.Response{What: &pb.Response_Created{Created: &pb.Created{Id: req.Id}}}, nil
	}
	started, err := p.Start(ctx)
	if err == nil {
		return startedResponse(started), nil
	}
	// A start that was cancelled left the process as it was made; one that failed has removed it.
	if _, derr := p.Delete(context.WithoutCancel(ctx), true); derr != nil && !errdefs.IsNotFound(derr) {
		a.log.Error("cannot remove a process that was not started", "process", req.Id, "err", derr)
	}
	return nil, err
}

// make makes a process that waits to be started. If it fails, nothing is left.
func (a *Agent) make(ctx context.Context, client control.Client, req *pb.Create, progress func(*pb.Response)) (*process.Process, error) {
	m, err := newMaking(a, req)
	if err != nil {
		return nil, err
	}
	if err := a.table.Reserve(req.Id); err != nil {
		return nil, err
	}
	if err := m.make(ctx, client, progress); err != nil {
		m.undo()
		a.table.Abandon(req.Id)
		return nil, err
	}
	return m.process, nil
}

// undoBound bounds the removal of what a failed create made.
const undoBound = 30 * time.Second

// making is a process on its way. What lives as long as the process holds none, and so no request: the text of a container's spec is long.
type making struct {
	agent   *Agent
	req     *pb.Create
	request *container.Request // of a container
	shares  []share            // of a container
	parent  *process.Process   // of an exec in a container

	process *process.Process
	task    process.Task
	stdio   *relay.Set
	release *func() // gives the container's root file system back; to nil before it is taken
}

// newMaking checks the request's specification.
func newMaking(a *Agent, req *pb.Create) (*making, error) {
	release := new(func())
	m := &making{agent: a, req: req, release: release}
	cfg := process.Config{ID: req.Id, Size: req.Size, AwayTimeout: time.Duration(req.AwayTimeoutMs) * time.Millisecond}
	switch what := req.What.(type) {
	case *pb.Create_Container:
		spec, shares, err := a.checkContainer(req, what.Container)
		if err != nil {
			return nil, err
		}
		m.shares = shares
		m.request = &container.Request{ID: req.Id, Spec: spec, BuiltIn: what.Container.BuiltIn, Size: req.Size}
		cfg.IsContainer, cfg.Terminal = true, spec.Process.Terminal
		cfg.Released = func() { (*release)() }
	case *pb.Create_Exec:
		if what.Exec.Process == nil {
			return nil, failure.Field("exec.process", "missing")
		}
		if name := what.Exec.Container; name != "" {
			parent, err := a.container(name)
			if err != nil {
				return nil, err
			}
			m.parent, cfg.Parent = parent, parent
		}
		cfg.Terminal = what.Exec.Process.Terminal
	default:
		return nil, failure.Field("what", "must be a container or an exec")
	}
	m.process = a.table.New(cfg)
	return m, nil
}

// checkContainer refuses what can be seen to be impossible without making anything.
func (a *Agent) checkContainer(req *pb.Create, c *pb.Container) (*specs.Spec, []share, error) {
	if c.BuiltIn != pb.BuiltIn_BUILT_IN_NONE && req.Runtime != "" {
		return nil, nil, failure.Field("built_in", "not with an external runtime")
	}
	spec, err := container.ParseSpec(c.Spec, c.BuiltIn, a.profiles)
	if err != nil {
		return nil, nil, err
	}
	if err := container.CheckFiles(c.Files); err != nil {
		return nil, nil, err
	}
	if spec.Root == nil && len(c.Files) > 0 {
		return nil, nil, failure.Field("files", "there is no root to put them in")
	}
	shares, err := a.shares(spec, c.Share)
	if err != nil || req.Runtime != "" {
		return spec, shares, err
	}
	return spec, shares, speccheck.Check(spec, sharedTypes(shares)...)
}

// container finds a process that is the first of a container.
func (a *Agent) container(id string) (*process.Process, error) {
	p, err := a.table.Get(id)
	if err != nil {
		return nil, failure.Step(err, "find container %s", id)
	}
	if !p.IsContainer() {
		return nil, failure.New(errdefs.ErrInvalidArgument, "process %s is not a container", id)
	}
	return p, nil
}

// make makes the task while stdio is connected, as far as it needs no connection, and commits.
func (m *making) make(ctx context.Context, client control.Client, progress func(*pb.Response)) error {
	create := m.container
	if m.request == nil {
		exec, err := m.exec()
		if err != nil {
			return err
		}
		m.task = exec
		create = func(ctx context.Context, client control.Client) error { return m.prepare(ctx, client, exec) }
	}
	progress(dialing())
	if err := create(ctx, client); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.agent.table.Commit(m.process, m.task, m.stdio)
}

// prepare readies an exec.
func (m *making) prepare(ctx context.Context, client control.Client, exec execTask) error {
	if err := m.connect(ctx, client, func(*relay.Set) error { return exec.Prepare() }); err != nil {
		return err
	}
	exec.SetStdio(m.stdio)
	return nil
}

func (m *making) exec() (execTask, error) {
	var in process.Task
	if m.parent != nil {
		in = m.parent.Task()
	}
	if err := checkExecRuntime(in, m.req.Runtime); err != nil {
		return nil, err
	}
	return m.agent.tasks.Exec(in, spawn.Config{ID: m.req.Id, Process: m.req.GetExec().Process, Exited: m.process.Exited})
}

// checkExecRuntime refuses an exec by another runtime than its container's, whose it is unless something is said.
func checkExecRuntime(in process.Task, runtime string) error {
	external, ok := in.(interface{ RuntimePath() string })
	if runtime == "" || ok && external.RuntimePath() == runtime {
		return nil
	}
	return failure.Field("runtime", "%.256q is not the runtime of the exec's container", runtime)
}

// connect connects stdio, and calls meanwhile while the host is busy with that.
func (m *making) connect(ctx context.Context, client control.Client, meanwhile func(*relay.Set) error) error {
	bound, err := connectBound(m.req.ConnectTimeoutMs)
	if err != nil {
		return err
	}
	var failed error // of meanwhile
	hub, id := m.agent.table.Hub(), m.req.Id
	m.stdio, err = relay.Connect(ctx, &relay.Config{
		Dial: m.agent.cfg.Dial, Budget: m.agent.budget, Logger: m.agent.log,
		OnLost: func(s pb.Stream, generation uint32) { hub.StreamLost(id, s, generation) },
	}, relay.Options{Stdio: m.req.Stdio, Terminal: m.process.Terminal(), Owner: client.Instance, ConnectTimeout: bound, Meanwhile: func(s *relay.Set) error {
		failed = meanwhile(s)
		return failed
	}})
	if failed != nil {
		return failed
	}
	return failure.Step(err, "connect stdio")
}

// container makes the container. Its first process waits, so it does not matter whether stdio is connected yet, but for streams whose connection is the process's own.
func (m *making) container(ctx context.Context, client control.Client) error {
	create := func(stdio *relay.Set) error { return m.createContainer(ctx, stdio) }
	meanwhile, then := create, func(*relay.Set) error { return nil }
	if slices.ContainsFunc(m.req.Stdio, func(s *pb.Stdio) bool { return s.Mode == pb.StdioMode_STDIO_MODE_DIRECT }) {
		meanwhile, then = then, create
	}
	if err := m.connect(ctx, client, meanwhile); err != nil {
		return err
	}
	if err := then(m.stdio); err != nil {
		return err
	}
	if m.process.Terminal() {
		m.stdio.StartTerminal(m.task.(containerTask).Master())
	} else {
		m.stdio.Start()
	}
	return nil
}

func (m *making) createContainer(ctx context.Context, stdio *relay.Set) error {
	var err error
	if *m.release, err = m.useRoot(); err != nil {
		return failure.Step(err, "use its root file system")
	}
	m.request.Exited = m.process.Exited
	hub, id := m.agent.table.Hub(), m.req.Id
	m.request.OOM = func() { hub.OOM(id) }
	if !m.process.Terminal() {
		if m.request.Stdio, err = stdio.ChildFiles(); err != nil {
			return failure.Step(err, "make stdio")
		}
	}
	c, err := m.makeContainer(ctx)
	if err != nil {
		return err
	}
	m.task = c
	return nil
}

// useRoot takes the container's root file system, unless it does without.
func (m *making) useRoot() (release func(), err error) {
	if m.request.Spec.Root == nil {
		return func() {}, nil
	}
	return m.agent.roots.Use(m.request.Spec.Root.Path)
}

// makeContainer makes it, in the namespaces that it shares and with the request's files.
func (m *making) makeContainer(ctx context.Context) (containerTask, error) {
	shared, err := openShared(m.shares)
	if err != nil {
		return nil, err
	}
	defer shared.close()
	if m.request.Spec, err = container.Join(m.request.Spec, shared); err != nil {
		return nil, err
	}
	files, err := container.Place(filepath.Join(m.agent.cfg.StateDir, "files", m.req.Id), m.request.Spec, m.req.GetContainer().Files, shared)
	if err != nil {
		return nil, err
	}
	c, err := m.agent.tasks.Container(ctx, m.req.Runtime, m.request)
	if rerr := files.Remove(); rerr != nil {
		m.agent.log.Error("cannot remove what a container's files were in", "container", m.req.Id, "err", rerr)
	}
	if err != nil {
		return nil, explainShared(m.shares, files.Explain(err))
	}
	return c, nil
}

// undo frees what a failed making has made so far.
func (m *making) undo() {
	var errs []error
	if m.task != nil {
		ctx, cancel := context.WithTimeout(context.Background(), undoBound)
		defer cancel()
		_, err := m.task.Delete(ctx, true)
		errs = append(errs, err)
	}
	if m.stdio != nil {
		errs = append(errs, m.stdio.Close())
	}
	if *m.release != nil {
		(*m.release)()
	}
	if err := errors.Join(errs...); err != nil {
		m.agent.log.Error("cannot undo a create", "process", m.req.Id, "err", err)
	}
}
