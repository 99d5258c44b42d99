//go:build linux

package relay

import (
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

func (s *stream) base() *stream { return s }

func (s *stream) generation() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gen
}

func (s *stream) nextGeneration() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	return s.gen
}

// setLink takes the connection of an attach; false, and it is closed, if the stream is. mu is held.
func (s *stream) setLink(ln link, gen uint32, owner []byte) bool {
	if s.closed {
		s.dispose(ln)
		return false
	}
	s.ln, s.gen, s.owner, s.lost = ln, gen, owner, 0
	s.cond.Broadcast()
	return true
}

// retire reads first what the host has said of its offset: a client that comes without one sees less again.
func (o *output) retire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.takeAllAcks()
	o.lost = 0
	o.dropLink()
	o.snd.Broken()
	o.changed()
}

func (o *output) begin(offset *uint64) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.snd.BeginAttach(offset)
}

func (o *output) failed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.snd.AttachFailed()
}

// attached sends on from the offset that begin gave.
func (o *output) attached(ln link, gen uint32, owner []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.setLink(ln, gen, owner) {
		return
	}
	o.snd.Attached()
	o.starved = false
	o.run()
	o.kick()
	o.changed()
}

func (o *output) info() *pb.StreamInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &pb.StreamInfo{
		Stream: o.name, Generation: o.gen, Attached: o.ln != nil, Owner: o.owner, Offset: o.snd.Next(), Ended: o.snd.Ended(), Done: o.snd.State() == stdio.SenderDone,
	}
}

func (o *output) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	o.timer.stop()
	o.dropLink()
	if o.src != nil && !o.terminal {
		o.dispose(o.src)
	}
	o.kick()
	o.snd.Abandon()
	o.changed()
}

// retire drops what the sink has not taken: it comes again.
func (in *input) retire() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ln != nil && !in.over() {
		in.rcv.Stop(protocol.StopDetached)
		in.sendRecord()
	}
	in.dropLink()
	in.rcv.Broken()
	if !in.over() {
		in.forget()
		in.rcv.Dropped()
	}
}

func (in *input) begin(*uint64) (uint64, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.rcv.Offset(), nil
}

func (in *input) failed() {}

func (in *input) attached(ln link, gen uint32, owner []byte) {
	in.mu.Lock()
	defer in.unlock()
	if !in.setLink(ln, gen, owner) {
		return
	}
	in.lingering = false
	in.rcv.Attached()
	in.run()
	if in.sink != nil {
		in.sendRecord()
	}
}

func (in *input) info() *pb.StreamInfo {
	in.mu.Lock()
	defer in.mu.Unlock()
	return &pb.StreamInfo{
		Stream: in.name, Generation: in.gen, Attached: in.ln != nil, Owner: in.owner, Offset: in.rcv.Offset(), Ended: in.over(), Done: in.over(),
	}
}

func (in *input) shut() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return
	}
	in.closed = true
	in.timer.stop()
	in.dropLink()
	if in.sink != nil {
		in.endSink()
	}
	in.forget()
	in.buf.Reset(in.buf.Next())
}
