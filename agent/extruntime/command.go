//go:build linux

package extruntime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/capture"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
)

// program is a runtime with the state of one container.
type program struct {
	runtimes *Runtimes
	path     string
	bundle   string // also holds the runtime's state and, for a moment, the files of its commands
}

const (
	createBound = 2 * time.Minute  // of a create, an exec or a start: hooks, and a slow disk
	signalBound = 10 * time.Second // of a kill
	freezeBound = 15 * time.Second // of a pause or resume: runtimes wait up to 10 s for a process that does not stand still
)

// argv gives the whole command line of a command, whose log goes to the directory.
func (p *program) argv(dir string, args ...string) []string {
	return append([]string{p.path, "--root", filepath.Join(p.bundle, "state"), "--log", filepath.Join(dir, "log"), "--log-format", "json"}, args...)
}

// run runs a command that leaves no process; of one that fails none is left. Its error has the step "runtime NAME".
func (p *program) run(ctx context.Context, args ...string) error {
	dir, err := os.MkdirTemp(p.bundle, "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := capture.New()
	if err != nil {
		return err
	}
	err = p.runWith(ctx, p.argv(dir, args...), out.Write)
	return failure.Step(p.explain(err, dir, out.Finish()), "runtime %s", args[0])
}

func (p *program) runWith(ctx context.Context, argv []string, out *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	k, err := p.runtimes.launch(argv, "", [3]*os.File{null, out, out})
	if err != nil {
		return err
	}
	if err := k.await(ctx); err != nil {
		k.clear(p.runtimes.cfg.Logger)
		return err
	}
	k.close()
	return nil
}

// leaving is a command that leaves a process: create, or exec.
type leaving struct {
	before, after []string    // the arguments around those that this package adds
	stdio         [3]*os.File // of the process; nil with a terminal. Borrowed
	terminal      bool
	dir           string // holds the command's files
}

// leave runs the command and takes its process, and the master of its terminal. After an error nothing of the process is left.
func (p *program) leave(ctx context.Context, c *leaving) (w *ward, master *os.File, err error) {
	pidFile, tty := filepath.Join(c.dir, "pid"), filepath.Join(c.dir, "tty")
	args := append(c.before, "--pid-file", pidFile)
	var socket *console
	var out *capture.Capture
	if c.terminal {
		if socket, err = newConsole(tty); err != nil {
			return nil, nil, err
		}
		defer socket.close()
		args = append(args, "--console-socket", tty)
		if out, err = capture.New(); err != nil {
			return nil, nil, err
		}
	}
	w, err = p.leaveWith(ctx, p.argv(c.dir, append(args, c.after...)...), pidFile, c.stdio, out)
	if err == nil && c.terminal {
		if master, err = socket.master(); err != nil {
			w.abandon(p.runtimes)
		}
	}
	var text []byte
	if out != nil {
		text = out.Finish()
	}
	return w, master, p.explain(err, c.dir, text)
}

// leaveWith runs the command's keeper. out takes what the runtime says where there is no stdio.
func (p *program) leaveWith(ctx context.Context, argv []string, pidFile string, stdio [3]*os.File, out *capture.Capture) (*ward, error) {
	if out != nil {
		null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		defer null.Close()
		stdio = [3]*os.File{null, out.Write, out.Write}
	}
	k, err := p.runtimes.launch(argv, pidFile, stdio)
	if err != nil {
		return nil, err
	}
	if err = k.await(ctx); err == nil {
		var w *ward
		if w, err = k.adopt(); err == nil {
			return w, nil
		}
	}
	k.clear(p.runtimes.cfg.Logger)
	return nil, err
}

// explain makes the error of a failed command: what the runtime says, in its log or else on its stderr, or when that is the process's, on being run alone.
func (p *program) explain(err error, dir string, said []byte) error {
	var exit *exitError
	if errors.Is(err, errKeeperGone) {
		return failure.New(errdefs.ErrAborted, "%v", err)
	}
	if !errors.As(err, &exit) {
		return err
	}
	log, _ := readTail(filepath.Join(dir, "log")) // a runtime that has none may not have come so far
	text := lastError(log)
	if text == "" {
		text = lastError(said)
	}
	if text == "" && !exit.status.Signaled() {
		text = p.selfTest()
	}
	if text == "" {
		text = exit.Error()
	}
	return &runtimeError{text: text}
}

// runtimeError is what a runtime says of its failure.
type runtimeError struct {
	text string
	kind error // what the agent knows of it; nil: nothing
}

func (e *runtimeError) Error() string { return e.text }
func (e *runtimeError) Unwrap() error { return e.kind }

// blame gives a runtime's error its code where the program cannot be executed, which the runtime says in text only. It looks once the runtime has failed, and through root, so what a mount
// of a container that was not made would have hidden or brought is not seen: the text tells the truth in any case.
func blame(err error, root *rootfs.Dir, p *specs.Process) error {
	var said *runtimeError
	var errno syscall.Errno
	if !errors.As(err, &said) || !errors.As(root.FindProgram(p.Args[0], p.Env, p.Cwd), &errno) {
		return err
	}
	return failure.Step(&runtimeError{text: said.text, kind: failure.Exec(errno)}, "exec %s", clean(p.Args[0]))
}

// selfTestBound bounds the run of a runtime that only says its version.
const selfTestBound = 5 * time.Second

// selfTest finds out why a runtime that said nothing cannot run at all: a shared library that is missing, say. It is empty if it can.
func (p *program) selfTest() string {
	ctx, cancel := context.WithTimeout(context.Background(), selfTestBound)
	defer cancel()
	out, err := capture.New()
	if err != nil {
		return ""
	}
	err = p.runWith(ctx, []string{p.path, "--version"}, out.Write)
	if text := lastError(out.Finish()); err != nil && text != "" {
		return text
	}
	return ""
}
