package hostclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// cleanupTimeout bounds what a Cmd does in the guest after its context has ended: kill and delete.
const cleanupTimeout = 10 * time.Second

// Cmd is a process in the guest in the shape of exec.Cmd: set its fields, then call Run, Output, CombinedOutput, or Start and Wait. Wait deletes the
// process from the guest. A Cmd is used once, by one goroutine, like exec.Cmd.
//
// When the context given to [Client.Command] ends, the process is killed: a container's first process with all of the container.
type Cmd struct {
	client *Client
	ctx    context.Context

	ID        string          // the process's name in the guest; empty: made up
	Container string          // the container to run in; empty: the guest's own root
	Spec      *specs.Spec     // of a new container whose first process this is; Args, Env, Dir, User and Terminal are then the spec's
	Files     []ContainerFile // put into the new container of Spec

	// Args begins with the program, which is looked up in the PATH of Env. What is not set in Env, Dir and User is as the container's spec has it, if the
	// command was made from a Container with a spec; else it is the agent's PATH and HOME, its choice of directory, and root.
	Args []string
	Env  []string
	Dir  string
	User *specs.User

	Terminal bool // Stdin and Stdout are a terminal's; Stderr must be nil

	// Stdin, Stdout and Stderr are as those of exec.Cmd and of [ProcessConfig]; nil is /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Config, if not nil, has the last word on the process's description before it is started.
	Config func(*ProcessConfig)

	// WaitDelay bounds how long Wait goes on after the context has ended; 0 is 10 s.
	WaitDelay time.Duration

	Process *Process    // set by Start
	Status  *ExitStatus // set by Wait when the process has exited

	share   []Share        // of a new container
	base    *specs.Process // what Args, Env, Dir and User are laid over; nil: nothing
	pipes   pipes
	stderr  *tail // what Output keeps
	watched chan struct{}
	unwatch context.CancelFunc
	waited  bool
}

// Command gives a command that runs the program name with the arguments arg in the guest's own root, outside every container.
func (c *Client) Command(ctx context.Context, name string, arg ...string) *Cmd {
	return &Cmd{client: c, ctx: ctx, Args: append([]string{name}, arg...)}
}

// String gives the command's words for messages.
func (cmd *Cmd) String() string {
	args := cmd.Args
	if cmd.Spec != nil && cmd.Spec.Process != nil {
		args = cmd.Spec.Process.Args
	}
	return fmt.Sprint(args)
}

// Run starts the command and waits for it. The error is an [*ExitError] if it ran and did not succeed.
func (cmd *Cmd) Run() error {
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Wait()
}

// Output runs the command and gives its standard output. If Stderr is not set, the end of the standard error is put into the [*ExitError].
func (cmd *Cmd) Output() ([]byte, error) {
	if cmd.Stdout != nil {
		return nil, errors.New("hostclient: Stdout is set already")
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if cmd.Stderr == nil && !cmd.terminal() {
		cmd.stderr = new(tail)
		cmd.Stderr = cmd.stderr
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*ExitError](err); ok && cmd.stderr != nil {
		exit.Stderr = cmd.stderr.bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and gives its standard output and standard error as they came.
func (cmd *Cmd) CombinedOutput() ([]byte, error) {
	if cmd.Stdout != nil || cmd.Stderr != nil {
		return nil, errors.New("hostclient: Stdout or Stderr is set already")
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if !cmd.terminal() {
		cmd.Stderr = &out
	}
	err := cmd.Run()
	return out.Bytes(), err
}

func (cmd *Cmd) terminal() bool {
	if cmd.Spec != nil {
		return cmd.Spec.Process != nil && cmd.Spec.Process.Terminal
	}
	return cmd.Terminal
}

// Start runs the command and does not wait for its end. After a successful Start, Wait must be called. A failed one leaves nothing behind.
func (cmd *Cmd) Start() error {
	if cmd.Process != nil {
		return errors.New("hostclient: the command is started already")
	}
	p, err := cmd.client.NewProcess(cmd.config())
	if err != nil {
		cmd.pipes.closeAll(err)
		return err
	}
	if err := p.Launch(cmd.ctx); err != nil {
		cmd.pipes.closeAll(err)
		return errors.Join(err, p.cleanUp(cmd.ctx))
	}
	cmd.Process = p
	cmd.watch()
	return nil
}

// config describes the process.
func (cmd *Cmd) config() ProcessConfig {
	cfg := ProcessConfig{
		ID:        cmd.ID,
		Spec:      cmd.Spec,
		Share:     cmd.share,
		Files:     cmd.Files,
		Container: cmd.Container,
		Stdin:     cmd.Stdin,
		Stdout:    cmd.Stdout,
		Stderr:    cmd.Stderr,
	}
	if cmd.Spec == nil {
		cfg.Process = cmd.process()
		cfg.InheritSeccomp = cmd.Container != ""
	}
	if cmd.Config != nil {
		cmd.Config(&cfg)
	}
	return cfg
}

// process describes a process that is not a container's first.
func (cmd *Cmd) process() *specs.Process {
	var p specs.Process
	if cmd.base != nil {
		p = *cmd.base
		p.ConsoleSize = nil
	}
	p.Args, p.Terminal = cmd.Args, cmd.Terminal
	if cmd.Env != nil {
		p.Env = cmd.Env
	}
	if cmd.Dir != "" {
		p.Cwd = cmd.Dir
	}
	if cmd.User != nil {
		p.User = *cmd.User
	}
	return &p
}

// cleanUp deletes the process whatever its state, also when the context has ended.
func (p *Process) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, err := p.ForceDelete(ctx)
	if err != nil {
		p.release(err) // the host's resources, at least
	}
	return err
}

// watch starts the goroutines that kill the process when the context ends, and end the pipes when the process does. Wait joins them.
func (cmd *Cmd) watch() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(cmd.ctx))
	cmd.unwatch, cmd.watched = cancel, make(chan struct{})
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_, _ = cmd.Process.WaitExit(ctx)
		cmd.pipes.closeStdin()
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.endOutputs(ctx)
	}()
	go func() {
		defer close(cmd.watched)
		select {
		case <-cmd.ctx.Done():
			cmd.kill()
		case <-exited:
		}
		<-exited
		<-ended
	}()
}

// endOutputs gives the readers of StdoutPipe and StderrPipe the end of the file when all output is delivered, since they read to it before they call Wait. Where the output is
// not whole they get the reason.
func (cmd *Cmd) endOutputs(ctx context.Context) {
	if len(cmd.pipes.outputs) == 0 {
		return
	}
	_, err := cmd.Process.Wait(ctx)
	if ctx.Err() != nil {
		return // Wait is on its way, and closes them
	}
	if _, unknown := cmd.Process.knownExit(); unknown == nil {
		err = cmd.Process.stdio.lost() // what else went wrong is for Wait to tell
	}
	cmd.pipes.closeOutputs(err)
}

func (cmd *Cmd) kill() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.ctx), cleanupTimeout)
	defer cancel()
	err := cmd.Process.kill(ctx, SIGKILL, cmd.Spec != nil)
	if err != nil {
		cmd.Process.log.Debug("cannot kill a command whose context has ended", "process", cmd.Process.id, "err", err)
	}
}

// Wait waits until the command has exited and its output is delivered, and deletes it from the guest. The error is an [*ExitError] if the command did not
// succeed, an error of Stdin, Stdout or Stderr if one of them failed, and wraps the context's cause if that ended it.
func (cmd *Cmd) Wait() error {
	switch {
	case cmd.Process == nil:
		return errors.New("hostclient: the command is not started")
	case cmd.waited:
		return errors.New("hostclient: Wait was called already")
	}
	cmd.waited = true
	ctx, cancel := cmd.waitContext()
	status, err := cmd.Process.Wait(ctx)
	cancel()
	if exit, exitErr := cmd.Process.knownExit(); exitErr == nil {
		if len(status.Outputs) == 0 {
			status = exit
		}
		cmd.Status = &status
	}
	cmd.unwatch()
	<-cmd.watched
	deleteErr := cmd.Process.cleanUp(cmd.ctx)
	cmd.pipes.closeAll(nil)
	if result := cmd.result(err); result != nil {
		return result
	}
	return deleteErr
}

// waitContext gives a context that ends WaitDelay after the command's.
func (cmd *Cmd) waitContext() (context.Context, context.CancelFunc) {
	delay := cmd.WaitDelay
	if delay <= 0 {
		delay = cleanupTimeout
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(cmd.ctx))
	var timer *time.Timer
	started := make(chan struct{})
	stop := context.AfterFunc(cmd.ctx, func() {
		timer = time.AfterFunc(delay, func() { cancel(context.Cause(cmd.ctx)) })
		close(started)
	})
	return ctx, func() {
		if !stop() {
			<-started
			timer.Stop()
		}
		cancel(nil)
	}
}

// result gives Wait's error, where err is that of waiting.
func (cmd *Cmd) result(err error) error {
	if err == nil && cmd.Status != nil && !cmd.Status.Success() {
		err = &ExitError{ExitStatus: *cmd.Status}
	}
	if err != nil && cmd.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(cmd.ctx), err)
	}
	return err
}

// tail keeps the last bytes written to it.
type tail struct{ buf []byte }

const tailSize = 64 << 10

func (t *tail) Write(b []byte) (int, error) {
	n := len(b)
	if n > tailSize {
		b = b[n-tailSize:]
	}
	t.buf = append(t.buf, b...)
	if len(t.buf) > 2*tailSize {
		t.buf = append(t.buf[:0], t.bytes()...)
	}
	return n, nil
}

func (t *tail) bytes() []byte { return t.buf[max(0, len(t.buf)-tailSize):] }
