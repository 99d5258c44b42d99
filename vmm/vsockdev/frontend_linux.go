package vsockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// frontend serves the vhost-user messages of one monitor. All of it runs on one goroutine, which owns the queues' set-up
// and the memory map.
type frontend struct {
	dev      *Device
	conn     *net.UnixConn
	features uint64
	mem      *memory
	queues   [numQueues]vring
}

// vring is what the front end has said about a queue. The kick file is here until the queue runs.
type vring struct {
	queue   *queue
	process func()
	setup   ringSetup
	kick    kickFile
	enabled bool
	held    bool   // stopped while the VM is paused: the driver does not know,
	heldAt  uint16 // and goes on here
}

func (d *Device) startFrontend() error {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return fmt.Errorf("%w: the rings are little-endian", errors.ErrUnsupported)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ours, monitor := os.NewFile(uintptr(fds[0]), "vhost-user"), os.NewFile(uintptr(fds[1]), "vhost-user-monitor")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		monitor.Close()
		return err
	}
	f := &frontend{dev: d, conn: conn.(*net.UnixConn)}
	f.queues[0] = vring{queue: &d.sender.queue, process: d.sender.process}
	f.queues[1] = vring{queue: &d.receiver.queue, process: d.receiver.process}
	d.frontend, d.monitor = conn, monitor
	d.served.Add(1)
	go f.serve()
	return nil
}

// serve handles messages until the monitor goes, breaks the protocol or the device ends. Then it takes everything down.
func (f *frontend) serve() {
	defer f.dev.served.Done()
	err := f.messages()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = ErrFrontendGone
	}
	f.dev.fail(err)
	f.dev.log.Debug("vsock front end ended", "error", err)
	for i := range f.queues {
		f.stopQueue(&f.queues[i])
		f.queues[i].queue.setCall(nil)
	}
	f.dev.setDown(syscall.ECONNRESET)
	f.dev.endListeners()
	if err := f.mem.close(); err != nil {
		f.dev.log.Error("vsock memory not unmapped", "error", err)
	}
}

func (f *frontend) messages() error {
	for {
		m, files, err := f.read()
		if err != nil {
			return err
		}
		reply, err := f.handle(m, files)
		closeAll(files)
		if err != nil {
			return err
		}
		if reply == nil && m.flags&flagNeedReply != 0 {
			reply = m.replyUint64(0)
		}
		if reply == nil {
			continue
		}
		if _, err := f.conn.Write(reply); err != nil {
			return err
		}
	}
}

// handle carries out a message and returns the answer, if it has one of its own.
func (f *frontend) handle(m message, files []int) (reply []byte, err error) {
	switch m.request {
	case msgGetFeatures:
		return m.replyUint64(offeredFeatures), nil
	case msgSetFeatures:
		return nil, f.setFeatures(m)
	case msgGetProtocolFeatures:
		return m.replyUint64(offeredProtocol), nil
	case msgGetQueueNum:
		return m.replyUint64(numQueues), nil
	case msgGetConfig:
		return m.configReply(f.dev.cfg.GuestCID)
	case msgSetMemTable:
		return nil, f.setMemTable(m, files)
	case msgSetVringNum, msgSetVringAddr, msgSetVringBase, msgSetVringEnable:
		return nil, f.setVring(m)
	case msgGetVringBase:
		return f.getVringBase(m)
	case msgSetVringKick, msgSetVringCall, msgSetVringErr:
		return nil, f.setFile(m, files)
	case msgResetOwner, msgResetDevice:
		f.stopAll()
		return nil, nil
	case msgSetOwner, msgSetProtocolFeatures, msgSetConfig:
		return nil, nil // nothing to note
	}
	// What was not offered is not asked for. A reply of 1 says no, where the monitor wants one.
	f.dev.log.Warn("vhost-user message not understood", "request", m.request)
	if m.flags&flagNeedReply != 0 {
		return m.replyUint64(1), nil
	}
	return nil, nil
}

func (f *frontend) setFeatures(m message) error {
	v, err := m.uint64()
	if err != nil {
		return err
	}
	if v&^offeredFeatures != 0 {
		return fmt.Errorf("%w: features %#x were not offered", errMessage, v&^offeredFeatures)
	}
	f.features = v
	return nil
}

// setMemTable maps the guest's memory anew. Queues that run go on in the new mapping.
func (f *frontend) setMemTable(m message, files []int) error {
	specs, err := m.memTable()
	if err != nil {
		return err
	}
	mem, err := mapMemory(specs, files)
	if err != nil {
		return err
	}
	f.dev.receiver.mu.Lock()
	f.dev.sender.mu.Lock()
	for i := range f.queues {
		f.queues[i].move(mem)
	}
	f.dev.sender.mu.Unlock()
	f.dev.receiver.mu.Unlock()
	old := f.mem
	f.mem = mem
	return old.close()
}

// move makes a running queue use other memory. The caller holds the queue's lock.
func (v *vring) move(mem *memory) {
	q := v.queue
	q.chain = chain{}
	if q.ring == nil {
		return
	}
	q.mem = mem
	setup := v.setup
	setup.base = q.ring.lastAvail
	if q.ring = newRing(mem, setup); q.ring == nil {
		q.dev.log.Warn("vsock ring is not in the new memory")
	}
}

// vring returns the queue of an index that the monitor has sent.
func (f *frontend) vring(index uint32) (*vring, error) {
	if index >= numQueues {
		return nil, fmt.Errorf("%w: queue %d", errMessage, index)
	}
	return &f.queues[index], nil
}

func (f *frontend) setVring(m message) error {
	if m.request == msgSetVringAddr {
		var s ringSetup
		index, err := m.vringAddr(&s)
		if err != nil {
			return err
		}
		v, err := f.vring(index)
		if err != nil {
			return err
		}
		v.setup.desc, v.setup.avail, v.setup.used = s.desc, s.avail, s.used
		return nil
	}
	index, num, err := m.vringState()
	if err != nil {
		return err
	}
	v, err := f.vring(index)
	if err != nil {
		return err
	}
	switch m.request {
	case msgSetVringNum:
		v.setup.num = num
	case msgSetVringBase:
		v.setup.base = uint16(num)
	case msgSetVringEnable:
		v.enabled = num != 0
		f.startQueue(v)
	}
	return nil
}

// setFile takes over an eventfd.
func (f *frontend) setFile(m message, files []int) error {
	arg, err := m.uint64()
	if err != nil {
		return err
	}
	v, err := f.vring(uint32(arg & vringIndexMask))
	if err != nil {
		return err
	}
	if arg&vringNoFile != 0 {
		return f.setNoFile(m, v)
	}
	if len(files) != 1 {
		return fmt.Errorf("%w: request %d came with %d files", errMessage, m.request, len(files))
	}
	fd := files[0]
	if m.request == msgSetVringErr {
		return nil // closed by the caller: errors are logged here
	}
	// Neither direction may ever block a worker, and only non-blocking files can be waited for by Go's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	files[0] = -1
	if m.request == msgSetVringCall {
		v.queue.setCall(eventfd(fd))
		return nil
	}
	f.stopQueue(v)
	v.kick = os.NewFile(uintptr(fd), "kick")
	f.startQueue(v)
	return nil
}

// setNoFile handles the choice to poll. Interrupts can be left out; notifications can't.
func (f *frontend) setNoFile(m message, v *vring) error {
	switch m.request {
	case msgSetVringKick:
		return fmt.Errorf("%w: a queue without a kick file is not supported", errMessage)
	case msgSetVringCall:
		v.queue.setCall(nil)
	}
	return nil
}

// startQueue starts a queue that has all it needs, and the device when both run.
func (f *frontend) startQueue(v *vring) {
	if f.features&featureProtocolFeatures == 0 {
		v.enabled = true // vhost-user specification, "Ring states"
	}
	if !v.enabled || v.kick == nil || v.queue.done != nil {
		return
	}
	r := newRing(f.mem, v.setup)
	if r == nil {
		f.dev.log.Warn("vsock ring cannot be used", "size", v.setup.num)
		return
	}
	if v.held && v.setup.base != v.heldAt {
		f.dev.setDown(syscall.ECONNRESET) // the guest was reset in its pause
	}
	v.held = false
	v.queue.start(r, f.mem, v.kick, v.process)
	v.kick = nil
	if f.queues[0].queue.done != nil && f.queues[1].queue.done != nil {
		f.dev.setUp()
	}
}

// stopQueue stops a queue. Unless the VM is merely paused, the driver resets or reboots then, and every connection is over.
func (f *frontend) stopQueue(v *vring) {
	if v.kick != nil {
		v.kick.Close()
		v.kick = nil
	}
	if base, ran := v.queue.stop(); ran {
		v.setup.base, v.heldAt = base, base
		if v.held = f.dev.suspend(); !v.held {
			f.dev.setDown(syscall.ECONNRESET)
		}
	}
}

func (f *frontend) stopAll() {
	for i := range f.queues {
		f.stopQueue(&f.queues[i])
		f.queues[i].enabled = false
	}
	f.dev.setDown(syscall.ECONNRESET)
}

func (f *frontend) getVringBase(m message) ([]byte, error) {
	index, _, err := m.vringState()
	if err != nil {
		return nil, err
	}
	v, err := f.vring(index)
	if err != nil {
		return nil, err
	}
	f.stopQueue(v)
	b := binary.LittleEndian.AppendUint32(nil, index)
	return m.reply(binary.LittleEndian.AppendUint32(b, uint32(v.setup.base))), nil
}

// eventfd is the call file of a queue. It does not block.
type eventfd int

func (fd eventfd) signal() {
	// The only failure is EAGAIN, when the counter is full: then an interrupt is on its way already.
	_, _ = unix.Write(int(fd), eventfdOne[:])
}

func (fd eventfd) close() { unix.Close(int(fd)) }
