package vmm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// errMonitorGone is what a command fails with when QEMU has ended.
var errMonitorGone = errors.New("QEMU has closed its monitor")

// monitor speaks QMP, QEMU's machine protocol, on one connection. It tells when
// QEMU has taken its options and runs, and why the VM ended: QEMU's exit status
// is 0 for a guest that powered off and for one that panicked alike.
//
// Its reader goroutine is joined by drain.
type monitor struct {
	conn   net.Conn
	ready  chan struct{} // closed when commands are taken
	qemu   [2]int        // version; set before ready is closed
	ended  chan struct{} // closed by the reader when it returns
	sendMu sync.Mutex    // held for one write

	mu      sync.Mutex // guards what follows
	lastID  uint64
	pending map[uint64]chan<- qmpMessage
	reason  Reason
	stopped bool // the CPUs are
}

// qmpMessage is anything that QEMU says; which it is shows in what is set.
type qmpMessage struct {
	Greeting *struct {
		Version struct {
			QEMU struct{ Major, Minor int } `json:"qemu"`
		} `json:"version"`
	} `json:"QMP"`
	Event string `json:"event"`
	Data  struct {
		Reason Reason `json:"reason"`
	} `json:"data"`
	ID     uint64          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

type qmpCommand struct {
	Execute   string         `json:"execute"`
	Arguments map[string]any `json:"arguments,omitempty"`
	ID        uint64         `json:"id"`
}

// newMonitor takes over conn and starts the reader.
func newMonitor(conn net.Conn) *monitor {
	m := &monitor{
		conn:    conn,
		ready:   make(chan struct{}),
		ended:   make(chan struct{}),
		pending: make(map[uint64]chan<- qmpMessage),
	}
	go m.read()
	return m
}

// drain reads what QEMU has still said, and joins the reader. QEMU must have
// ended: then the connection has an end. The deadline is for a child of QEMU that
// might hold it open.
func (m *monitor) drain() {
	m.conn.SetReadDeadline(time.Now().Add(pipeDelay))
	<-m.ended
	m.conn.Close()
}

// shutdownReason is why the VM ended, as far as QEMU has said it.
func (m *monitor) shutdownReason() Reason {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// isStopped says whether the machine is paused.
func (m *monitor) isStopped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopped
}

// olderThan compares the version of QEMU; ready must be closed.
func (m *monitor) olderThan(version [2]int) bool { return slices.Compare(m.qemu[:], version[:]) < 0 }

// execute runs a command without arguments and waits for its answer.
func (m *monitor) execute(ctx context.Context, command string) error {
	_, err := m.ask(ctx, command, nil)
	return err
}

// command runs a line of QEMU's monitor for humans, with a CPU as the one that it is about, and returns what it prints.
func (m *monitor) command(line string, cpu int) (printed string, err error) {
	answer, err := m.ask(context.Background(), "human-monitor-command", map[string]any{"command-line": line, "cpu-index": cpu})
	if err != nil {
		return "", err
	}
	err = json.Unmarshal(answer, &printed)
	return printed, err
}

// ask runs a command and returns its answer.
func (m *monitor) ask(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
	answer := make(chan qmpMessage, 1)
	id := m.register(answer)
	defer m.forget(id)
	if err := m.send(qmpCommand{Execute: command, Arguments: arguments, ID: id}); err != nil {
		return nil, errMonitorGone
	}
	select {
	case msg := <-answer:
		if msg.Error != nil {
			return nil, fmt.Errorf("QEMU: %s", msg.Error.Desc)
		}
		return msg.Return, nil
	case <-m.ended:
		return nil, errMonitorGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *monitor) register(answer chan<- qmpMessage) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastID++
	m.pending[m.lastID] = answer
	return m.lastID
}

func (m *monitor) forget(id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pending, id)
}

func (m *monitor) send(c qmpCommand) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	m.sendMu.Lock()
	defer m.sendMu.Unlock()
	_, err = m.conn.Write(append(line, '\n'))
	return err
}

// read runs until QEMU closes the connection or says something that is not QMP.
func (m *monitor) read() {
	defer close(m.ended)
	messages := json.NewDecoder(m.conn)
	negotiated := make(chan qmpMessage, 1)
	var negotiation uint64
	for {
		var msg qmpMessage
		if err := messages.Decode(&msg); err != nil {
			return
		}
		switch {
		case msg.Greeting != nil:
			m.qemu = [2]int{msg.Greeting.Version.QEMU.Major, msg.Greeting.Version.QEMU.Minor}
			// No command but this one is taken before it, no event is sent.
			negotiation = m.register(negotiated)
			if m.send(qmpCommand{Execute: "qmp_capabilities", ID: negotiation}) != nil {
				return
			}
		case msg.Event == "SHUTDOWN":
			m.setReason(msg.Data.Reason)
		case msg.Event == "STOP", msg.Event == "RESUME":
			m.setStopped(msg.Event == "STOP")
		case msg.Event == "" && msg.ID != 0 && msg.ID == negotiation:
			m.forget(negotiation)
			negotiation = 0
			close(m.ready)
		case msg.Event == "":
			m.deliver(msg)
		}
	}
}

func (m *monitor) setReason(r Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reason = r
}

func (m *monitor) setStopped(stopped bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = stopped
}

func (m *monitor) deliver(msg qmpMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if answer := m.pending[msg.ID]; answer != nil {
		answer <- msg // has room for the one answer
		delete(m.pending, msg.ID)
	}
}
