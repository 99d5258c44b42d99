//go:build linux

package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
	"github.com/bellhop-vm/bellhop/protocol/stdio"
)

// relay is what Attach, Detach, Info and Close need of an input or output. Only the holder of the stream's attaching may call retire to attached.
type relay interface {
	base() *stream

	// retire ends the connection, if there is one.
	retire()

	// begin gives the offset for the preamble; offset is the receiver's, nil if unknown. The error is a *stdio.RangeError. It is followed by attached or failed.
	begin(offset *uint64) (uint64, error)
	attached(ln link, gen uint32, owner []byte)
	failed()

	info() *pb.StreamInfo

	// shut ends the relay for good. Its goroutines end then.
	shut()
}

// relay gives the stream's relay, nil if there is none.
func (s *Set) relay(name pb.Stream) relay {
	switch {
	case name == pb.Stream_STREAM_STDIN && s.in != nil:
		return s.in
	case name > 0 && int(name) < streamCount && s.outs[name] != nil:
		return s.outs[name]
	}
	return nil
}

// attachment is one stream of an Attach in progress.
type attachment struct {
	relay
	req *pb.AttachStream
	gen uint32
	dialing
}

// Attach is the operation of SPEC 7. dialing is called, if not nil, before the host is dialled. The error is a *protocol.StatusError.
func (s *Set) Attach(ctx context.Context, a *pb.Attach, owner []byte, dialing func()) (*pb.Attached, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()

	as, err := s.attachments(a.Streams)
	if err != nil {
		return nil, err
	}
	held, err := lockAll(ctx, as)
	defer unlockAll(as[:held])
	if err != nil {
		return nil, err
	}
	for _, at := range as {
		if err := at.admit(owner); err != nil {
			return nil, err
		}
	}
	if err := retireAll(as); err != nil {
		return nil, err
	}
	if dialing != nil {
		dialing()
	}
	if err := s.dialAttachments(ctx, connectTimeout(a.ConnectTimeoutMs), as); err != nil {
		return nil, err
	}
	res := new(pb.Attached)
	for _, at := range as {
		info := at.settle(owner)
		res.Streams = append(res.Streams, info)
	}
	return res, nil
}

// attachments checks the request's form and finds the streams, in their order.
func (s *Set) attachments(reqs []*pb.AttachStream) ([]*attachment, error) {
	var as []*attachment
	for _, req := range reqs {
		if int(req.Stream) < streamCount && req.Stream >= 0 && s.direct[req.Stream] {
			return nil, streamError(pb.Code_CODE_FAILED_PRECONDITION, req.Stream, label(req.Stream)+" is direct")
		}
		r := s.relay(req.Stream)
		if r == nil {
			return nil, streamError(pb.Code_CODE_NOT_FOUND, req.Stream, label(req.Stream)+" is not connected")
		}
		if len(req.Token) != protocol.TokenSize {
			return nil, streamError(pb.Code_CODE_INVALID_ARGUMENT, req.Stream, fmt.Sprintf("token of %d bytes, must have %d", len(req.Token), protocol.TokenSize))
		}
		as = append(as, &attachment{relay: r, req: req})
	}
	slices.SortFunc(as, func(a, b *attachment) int { return int(a.req.Stream - b.req.Stream) })
	for i := 1; i < len(as); i++ {
		if as[i].relay == as[i-1].relay {
			return nil, streamError(pb.Code_CODE_INVALID_ARGUMENT, as[i].req.Stream, label(as[i].req.Stream)+" is named twice")
		}
	}
	return as, nil
}

// lockAll takes attaching of every stream, in their order, so that two of them never wait for each other. It gives how many it has.
func lockAll(ctx context.Context, as []*attachment) (int, error) {
	for i, at := range as {
		select {
		case at.base().attaching <- struct{}{}:
		case <-ctx.Done():
			return i, streamError(pb.Code_CODE_CANCELED, at.req.Stream, "another attach is going on")
		}
	}
	return len(as), nil
}

func unlockAll(as []*attachment) {
	for _, at := range as {
		<-at.base().attaching
	}
}

// admit compares generation and owner.
func (at *attachment) admit(owner []byte) error {
	b := at.base()
	b.mu.Lock()
	defer b.mu.Unlock()
	at.gen = b.gen
	switch {
	case b.closed:
		return at.refuse(pb.Code_CODE_NOT_FOUND, "the process is deleted")
	case at.req.TakeOver:
		return nil
	case b.gen != at.req.Generation:
		return at.refuse(pb.Code_CODE_FAILED_PRECONDITION, fmt.Sprintf("generation is %d, not %d", b.gen, at.req.Generation))
	case b.ownedByOther(owner):
		return at.refuse(pb.Code_CODE_FAILED_PRECONDITION, "another client is attached")
	}
	return nil
}

func (at *attachment) refuse(code pb.Code, message string) error {
	e := streamError(code, at.req.Stream, message)
	e.PB.Generation = at.gen
	return e
}

// retireAll ends the old connections and finds where the new ones go on. From here on the streams have a new generation, whatever happens.
func retireAll(as []*attachment) error {
	for _, at := range as {
		at.gen = at.base().nextGeneration()
		at.retire()
	}
	for i, at := range as {
		from, err := at.begin(at.req.Offset)
		if err != nil {
			failAll(as[:i])
			return at.rangeError(err)
		}
		at.dialing = dialing{port: at.req.Port, preamble: protocol.Preamble{
			Stream: at.req.Stream, Generation: at.gen, Token: protocol.Token(at.req.Token), Offset: from,
		}}
	}
	return nil
}

func (at *attachment) rangeError(err error) error {
	e := streamError(pb.Code_CODE_OUT_OF_RANGE, at.req.Stream, err.Error())
	e.PB.Generation = at.gen
	var re *stdio.RangeError
	if errors.As(err, &re) {
		e.PB.Range = &pb.Range{First: re.First, Next: re.Next}
	}
	return e
}

func failAll(as []*attachment) {
	for _, at := range as {
		at.failed()
	}
}

func (s *Set) dialAttachments(ctx context.Context, timeout time.Duration, as []*attachment) error {
	ds := make([]*dialing, len(as))
	for i, at := range as {
		ds[i] = &at.dialing
	}
	err := s.cfg.dialAll(ctx, timeout, ds, func() error { return nil })
	if err == nil {
		return nil
	}
	failAll(as)
	var se *protocol.StatusError
	if errors.As(err, &se) {
		for _, at := range as {
			if se.PB.Stream.GetStream() == at.req.Stream {
				se.PB.Generation = at.gen
			}
		}
	}
	return err
}

// settle gives the relay its new connection, and the answer for it.
func (at *attachment) settle(owner []byte) *pb.StreamInfo {
	at.relay.attached(newLink(at.conn), at.gen, owner)
	info := at.info()
	info.Offset = at.preamble.Offset
	return info
}

func connectTimeout(ms uint32) time.Duration {
	if ms == 0 {
		return protocol.ConnectTimeout
	}
	return min(time.Duration(ms)*time.Millisecond, protocol.MaxConnectTimeout)
}

// Detach retires the connections of the named generations. The error is a *protocol.StatusError.
func (s *Set) Detach(d *pb.Detach) error {
	for _, req := range d.Streams {
		if err := s.detach(req); err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) detach(req *pb.DetachStream) error {
	r := s.relay(req.Stream)
	if r == nil {
		return streamError(pb.Code_CODE_NOT_FOUND, req.Stream, label(req.Stream)+" is not connected")
	}
	select {
	case r.base().attaching <- struct{}{}:
	case <-s.closing.Done():
		return streamError(pb.Code_CODE_NOT_FOUND, req.Stream, "the process is deleted")
	}
	defer func() { <-r.base().attaching }()
	if gen := r.base().generation(); gen != req.Generation {
		e := streamError(pb.Code_CODE_FAILED_PRECONDITION, req.Stream, fmt.Sprintf("generation is %d, not %d", gen, req.Generation))
		e.PB.Generation = gen
		return e
	}
	r.retire()
	return nil
}
