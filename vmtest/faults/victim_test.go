package faults

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// The environment of a victim: a client in a process of its own, which is killed.
const (
	victimSocket  = "BELLHOP_FAULTS_SOCKET"  // path of the device
	victimProcess = "BELLHOP_FAULTS_PROCESS" // what it attaches to
	victimOffset  = "BELLHOP_FAULTS_OFFSET"  // bytes of the output that the one before it had received
)

// victimLength is more bytes of input than any victim lives to send.
const victimLength = 1 << 40

// victim attaches to a process, gives it the stream, hands its output on, and never ends by itself.
func victim() int {
	err := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := hostclient.Connect(ctx, hostclient.HybridSocket(os.Getenv(victimSocket)), nil)
		if err != nil {
			return err
		}
		offset, err := strconv.ParseUint(os.Getenv(victimOffset), 10, 64)
		if err != nil {
			return err
		}
		id := os.Getenv(victimProcess)
		p, err := c.Attach(ctx, id, &hostclient.AttachConfig{
			Stdin: &resumed{ctx: ctx, client: c, id: id, length: victimLength}, Stdout: os.Stdout, StdoutOffset: &offset, TakeOver: true,
			ConnectTimeout: time.Minute,
		})
		if err != nil {
			return err
		}
		_, err = p.Wait(ctx)
		return err
	}()
	fmt.Fprintln(os.Stderr, "the victim ended by itself:", err)
	return 1
}

// resumed is the input of a client that takes over from another one: the stream from where the process has received it. That is known
// at the first Read, when this client is attached and has sent nothing.
type resumed struct {
	ctx    context.Context
	client *hostclient.Client
	id     string
	length int
	source *source
}

func (r *resumed) Read(b []byte) (int, error) {
	if r.source == nil {
		offset, err := inputOffset(r.ctx, r.client, r.id)
		if err != nil {
			return 0, err
		}
		r.source = newSource(rand.New(rand.NewPCG(*seed, uint64(offset))), r.length)
		r.source.offset = offset
	}
	return r.source.Read(b)
}

func inputOffset(ctx context.Context, c *hostclient.Client, id string) (int, error) {
	list, err := c.List(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range list {
		for _, s := range p.Streams {
			if p.ID == id && s.Stream == hostclient.Stdin {
				return int(s.Offset), nil
			}
		}
	}
	return 0, fmt.Errorf("the guest does not list the input of %s", id)
}

// serveHybrid offers the machine to other processes at a path, until the test's end.
func (m *machine) serveHybrid(t *testing.T) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bellhop") // t.TempDir's are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "vsock")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- m.Machine.Device().ServeHybrid(ctx, path) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("ServeHybrid(…) = %v; want no error", err)
		}
		os.RemoveAll(dir)
	})
	eventually(t, "the device's socket", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
	return path
}

// sacrifice runs a victim until it has received some more of the output, kills it, and gives what it has received at its death.
func sacrifice(t *testing.T, path, id string, offset, more int) (received int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), victimSocket+"="+path, victimProcess+"="+id, victimOffset+"="+strconv.Itoa(offset))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &checker{offset: offset}
	_, err = io.CopyN(c, out, int64(more))
	kill := cmd.Process.Kill()
	if _, rest := io.Copy(c, out); err == nil {
		err = rest
	}
	_ = cmd.Wait() // it was killed
	if err != nil || kill != nil || stderr.Len() > 0 {
		t.Fatalf("a client that was to die at %d: %v, kill = %v, stderr %q, received %d", offset+more, err, kill, stderr.Bytes(), c.received())
	}
	return c.received()
}

// testKilledClients has clients be killed with SIGKILL in the middle of a process's input and output, one after the other: each takes over where the one before
// had come, and the process notices nothing.
func testKilledClients(t *testing.T, m *machine, rng *rand.Rand) {
	const victims = 3
	path := m.serveHybrid(t)
	cfg := script("cat")
	cfg.ID = "inherited"
	received := new(checker)
	in, feed := io.Pipe()
	cfg.Stdin, cfg.Stdout = in, received
	first := m.launch(t, cfg)
	if _, err := io.Copy(feed, newSource(rng, 100_000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first output", func() bool { return received.received() == 100_000 })
	offset := received.received()
	for range victims {
		offset = sacrifice(t, path, first.ID(), offset, int(logUniform(rng, 1, 4<<20)))
	}
	m.inherit(t, first, offset, offset+(4<<20))
}

// inherit has a client in this process take over what a killed one has left, and bring it to its end.
func (m *machine) inherit(t *testing.T, p *hostclient.Process, offset, length int) {
	t.Helper()
	ctx := deadline(t)
	from, rest := uint64(offset), &checker{offset: offset}
	q, err := m.Client.Attach(ctx, p.ID(), &hostclient.AttachConfig{
		Stdin:  &resumed{ctx: ctx, client: m.Client, id: p.ID(), length: length},
		Stdout: rest, StdoutOffset: &from, TakeOver: true,
	})
	if err != nil {
		t.Fatalf("Attach() after a killed client = %v; want no error", err)
	}
	status, err := q.Wait(ctx)
	if err != nil || !status.Success() || rest.received() != length {
		t.Errorf("Wait() = %v, %v, %d bytes; want success and %d", status, err, rest.received(), length)
	}
}

// testForgetfulClient has a client take over an output that does not know what the killed one has received: it sees at most a ring of it again.
func testForgetfulClient(t *testing.T, m *machine, rng *rand.Rand) {
	const ring, length = 64 << 10, 3 << 20
	path := m.serveHybrid(t)
	cfg := script("cat")
	cfg.ID = "forgotten"
	cfg.StdoutOptions.Buffer = ring
	cfg.Stdin, cfg.Stdout = new(never), io.Discard
	p := m.launch(t, cfg)
	received := sacrifice(t, path, p.ID(), 0, length/2+rng.IntN(length/4))

	ctx := deadline(t)
	var out lateChecker
	q, err := m.Client.Attach(ctx, p.ID(), &hostclient.AttachConfig{
		Stdin: &resumed{ctx: ctx, client: m.Client, id: p.ID(), length: 2 * length}, Stdout: &out, TakeOver: true,
	})
	if err != nil {
		t.Fatalf("Attach() = %v; want no error", err)
	}
	if status, err := q.Wait(ctx); err != nil || !status.Success() || out.checker.received() != 2*length {
		t.Errorf("Wait() = %v, %v, output up to %d; want success and %d", status, err, out.checker.received(), 2*length)
	}
	if out.from > received || out.from < received-ring {
		t.Errorf("the new client sees the output from %d on; want from at most %d bytes before %d", out.from, ring, received)
	}
}

// never is a Reader that has nothing to say, for ever.
type never struct{}

func (never) Read([]byte) (int, error) { select {} }

// lateChecker is a checker that finds out from the bytes themselves where in the pattern they begin. The pattern must not repeat before that.
type lateChecker struct {
	from    int
	begun   bool
	head    []byte
	checker checker
}

// lateHead is how many bytes tell a place of the pattern from all others.
const lateHead = 16

func (l *lateChecker) Write(b []byte) (int, error) {
	if l.begun {
		return l.checker.Write(b)
	}
	if l.head = append(l.head, b...); len(l.head) < lateHead {
		return len(b), nil
	}
	l.begun = true
	if l.from = bytes.Index(pattern, l.head[:lateHead]); l.from < 0 {
		return 0, fmt.Errorf("not of the stream: %x", l.head[:lateHead])
	}
	l.checker.offset = l.from
	if _, err := l.checker.Write(l.head); err != nil {
		return 0, err
	}
	return len(b), nil
}
