package hostclient

import (
	"errors"
	"io"
	"io/fs"
)

// pipes are what StdinPipe, StdoutPipe and StderrPipe have made.
type pipes struct {
	stdin   *io.PipeReader // read by the relay
	outputs []*io.PipeWriter
}

// StdinPipe gives a pipe to the command's standard input. Closing it is the end of the input. Wait closes it, and it fails with fs.ErrClosed once the command
// has exited.
func (cmd *Cmd) StdinPipe() (io.WriteCloser, error) {
	if err := cmd.pipeable("Stdin", cmd.Stdin != nil); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	cmd.Stdin, cmd.pipes.stdin = r, r
	return w, nil
}

// StdoutPipe gives a pipe from the command's standard output. Its end comes when [Process.Wait] would return: after the exit, with all output delivered. It must be read to
// its end, or closed, for Wait to return, and unlike with os/exec nothing is lost if Wait is called before that.
func (cmd *Cmd) StdoutPipe() (io.ReadCloser, error) {
	if err := cmd.pipeable("Stdout", cmd.Stdout != nil); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	cmd.Stdout = w
	cmd.pipes.outputs = append(cmd.pipes.outputs, w)
	return r, nil
}

// StderrPipe is StdoutPipe for the standard error.
func (cmd *Cmd) StderrPipe() (io.ReadCloser, error) {
	if err := cmd.pipeable("Stderr", cmd.Stderr != nil); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	cmd.Stderr = w
	cmd.pipes.outputs = append(cmd.pipes.outputs, w)
	return r, nil
}

func (cmd *Cmd) pipeable(name string, set bool) error {
	if set {
		return errors.New("hostclient: " + name + " is set already")
	}
	if cmd.Process != nil {
		return errors.New("hostclient: a pipe for " + name + " after the command was started")
	}
	return nil
}

func (p *pipes) closeStdin() {
	if p.stdin != nil {
		p.stdin.CloseWithError(fs.ErrClosed)
	}
}

// closeAll ends the pipes; readers get err, or the end of file if it is nil.
func (p *pipes) closeAll(err error) {
	p.closeStdin()
	p.closeOutputs(err)
}

func (p *pipes) closeOutputs(err error) {
	for _, w := range p.outputs {
		w.CloseWithError(err)
	}
}
