package hostclient

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// fakeStdio is the fake guest's end of the streams of one process, whose program is a function. It keeps all output for resuming, and knows no flow control.
type fakeStdio struct {
	g  *fakeGuest
	id string

	attaching sync.Mutex // one Attach at a time

	mu         sync.Mutex
	changed    sync.Cond
	out        [3][]byte // what the program has written
	ended      [3]bool
	in         []byte
	inEnded    bool
	generation [3]uint32
	conns      [3]net.Conn
	lengths    [3]uint64 // instead of the true ones in drained; 0: the true ones
	wantInput  uint64    // instead of the true offset in an Attach; 0: the true one
	drained    func()    // called before the guest says drained, if not nil
	wg         sync.WaitGroup
}

// serveStdio makes g run program for each process that is created, with real data connections. The program's result is the exit.
func serveStdio(g *fakeGuest, program func(*fakeStdio) *pb.Exited) *fakeStdio {
	s := &fakeStdio{g: g, generation: [3]uint32{1, 1, 1}}
	s.changed.L = &s.mu
	g.table.script = func(c *fakeCall) bool {
		switch {
		case c.req.GetCreate() != nil:
			s.create(c, c.req.GetCreate(), program)
		case c.req.GetAttach() != nil:
			s.attach(c, c.req.GetAttach())
		case c.req.GetDetach() != nil:
			s.hangUp(0, 1, 2)
			c.result(&pb.Response{What: &pb.Response_Detached{Detached: &pb.Detached{}}})
		default:
			return false
		}
		return true
	}
	g.t.Cleanup(func() {
		s.hangUp(0, 1, 2)
		s.wg.Wait()
	})
	return s
}

// create takes a Create with start and wait from nothing to its drained output.
func (s *fakeStdio) create(c *fakeCall, create *pb.Create, program func(*fakeStdio) *pb.Exited) {
	c.progress(&pb.Response{What: &pb.Response_Dialing{Dialing: &pb.Dialing{}}})
	s.id = create.Id
	for _, st := range create.Stdio {
		if err := s.dial(st.Stream, 1, st.Port, st.Token, 0); err != nil {
			c.fail(pb.Code_CODE_UNAVAILABLE, err.Error())
			return
		}
	}
	r, err := s.g.table.createLocked(create)
	if err != nil {
		s.g.t.Error(err)
	}
	c.progress(r)
	exit := program(s)
	s.g.table.exit(create.Id, exit)
	c.progress(&pb.Response{What: &pb.Response_Exited{Exited: exit}})
	if s.drained != nil {
		s.drained()
	}
	c.result(&pb.Response{What: &pb.Response_Drained{Drained: &pb.Drained{Exited: exit, Outputs: s.outputs(create.Stdio)}}})
}

func (s *fakeStdio) outputs(stdio []*pb.Stdio) []*pb.Output {
	s.mu.Lock()
	defer s.mu.Unlock()
	var outputs []*pb.Output
	for _, st := range stdio {
		if st.Stream == pb.Stream_STREAM_STDIN {
			continue
		}
		length := s.lengths[st.Stream]
		if length == 0 {
			length = uint64(len(s.out[st.Stream]))
		}
		outputs = append(outputs, &pb.Output{Stream: st.Stream, Length: length, Drained: true})
	}
	return outputs
}

// dial connects a stream: for output from offset from, for input where it is.
func (s *fakeStdio) dial(stream pb.Stream, generation, port uint32, token []byte, from uint64) error {
	conn, err := net.Dial("unix", s.g.socket(port))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream == pb.Stream_STREAM_STDIN {
		from = uint64(len(s.in))
		if generation > 1 && s.wantInput > 0 {
			from = s.wantInput
		}
	}
	p := protocol.Preamble{Stream: stream, Generation: generation, Token: protocol.Token(token), Offset: from}
	if err := protocol.WritePreamble(conn, p); err != nil {
		return err
	}
	if err := protocol.ReadAccept(conn, p); err != nil {
		return err
	}
	s.conns[stream], s.generation[stream] = conn, generation
	if stream == pb.Stream_STREAM_STDIN {
		s.wg.Go(func() { s.receive(conn) })
	} else {
		s.wg.Go(func() { s.send(conn, stream, from) })
		s.wg.Go(func() { _, _ = io.Copy(io.Discard, conn) }) // acks are of no interest here
	}
	return nil
}

// send sends what the program writes, and the end.
func (s *fakeStdio) send(conn net.Conn, stream pb.Stream, from uint64) {
	for {
		s.mu.Lock()
		for s.conns[stream] == conn && uint64(len(s.out[stream])) == from && !s.ended[stream] {
			s.changed.Wait()
		}
		b := bytes.Clone(s.out[stream][from:])
		live, ended := s.conns[stream] == conn, s.ended[stream]
		s.mu.Unlock()
		if !live {
			return
		}
		if len(b) == 0 && ended {
			_, _ = conn.Write(protocol.AppendEnd(nil, from))
			return
		}
		for len(b) > 0 {
			n := min(len(b), 1000)
			chunk := append(make([]byte, protocol.ChunkHeaderSize), b[:n]...)
			protocol.PutChunkHeader(chunk, n)
			if _, err := conn.Write(chunk); err != nil {
				return
			}
			b, from = b[n:], from+uint64(n)
		}
	}
}

// receive takes input, and answers its end.
func (s *fakeStdio) receive(conn net.Conn) {
	var hdr [protocol.ChunkHeaderSize]byte
	for {
		if _, err := io.ReadFull(conn, hdr[:]); err != nil {
			return
		}
		n, err := protocol.ChunkLength(hdr[:], protocol.MaxChunk)
		if err != nil {
			s.g.t.Error(err)
			return
		}
		if n == 0 {
			s.inputEnds(conn)
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		s.mu.Lock()
		if s.conns[pb.Stream_STREAM_STDIN] != conn { // an agent retires the old connection before it states an offset
			s.mu.Unlock()
			return
		}
		s.in = append(s.in, b...)
		_, _ = conn.Write(protocol.Record{Type: protocol.RecordAck, Offset: uint64(len(s.in))}.Append(nil))
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

func (s *fakeStdio) inputEnds(conn net.Conn) {
	var total [8]byte
	if _, err := io.ReadFull(conn, total[:]); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := binary.BigEndian.Uint64(total[:]); got != uint64(len(s.in)) {
		s.g.t.Errorf("the input ends at %d, %d bytes came", got, len(s.in))
	}
	s.inEnded = true
	_, _ = conn.Write(protocol.Record{Type: protocol.RecordEndAcked, Offset: uint64(len(s.in))}.Append(nil))
	s.changed.Broadcast()
}

// What programs do.

func (s *fakeStdio) write(stream Stream, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out[stream] = append(s.out[stream], b...)
	s.changed.Broadcast()
}

func (s *fakeStdio) end(streams ...Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range streams {
		s.ended[st] = true
	}
	s.changed.Broadcast()
}

// readAll waits for the end of the input.
func (s *fakeStdio) readAll() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.inEnded {
		s.changed.Wait()
	}
	return s.in
}

// hangUp breaks the connections of streams.
func (s *fakeStdio) hangUp(streams ...Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range streams {
		if s.conns[st] != nil {
			s.conns[st].Close()
			s.conns[st] = nil
		}
	}
	s.changed.Broadcast()
}

// attach connects streams anew, as SPEC 7 says.
func (s *fakeStdio) attach(c *fakeCall, attach *pb.Attach) {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	c.progress(&pb.Response{What: &pb.Response_Dialing{Dialing: &pb.Dialing{}}})
	attached := &pb.Attached{}
	for _, a := range attach.Streams {
		s.mu.Lock()
		current := s.generation[a.Stream]
		s.mu.Unlock()
		if current != a.Generation && !a.TakeOver {
			c.send(protocol.KindError, &pb.Error{Code: pb.Code_CODE_FAILED_PRECONDITION, Message: "another client has it", Generation: current})
			return
		}
		s.hangUp(Stream(a.Stream))
		if err := s.dial(a.Stream, current+1, a.Port, a.Token, a.GetOffset()); err != nil {
			c.send(protocol.KindError, &pb.Error{Code: pb.Code_CODE_UNAVAILABLE, Message: err.Error(), Generation: current})
			return
		}
		attached.Streams = append(attached.Streams, &pb.StreamInfo{Stream: a.Stream, Generation: current + 1, Attached: true})
	}
	s.g.table.note("attach")
	c.result(&pb.Response{What: &pb.Response_Attached{Attached: attached}})
}

// cat is a program.
func cat(s *fakeStdio) *pb.Exited {
	s.write(Stdout, s.readAll())
	s.end(Stdout, Stderr)
	return &pb.Exited{}
}

// speak is a program.
func speak(stdout, stderr string, code int32) func(*fakeStdio) *pb.Exited {
	return func(s *fakeStdio) *pb.Exited {
		s.write(Stdout, []byte(stdout))
		s.write(Stderr, []byte(stderr))
		s.end(Stdout, Stderr)
		return &pb.Exited{Code: code}
	}
}
