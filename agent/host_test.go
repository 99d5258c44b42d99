//go:build linux

package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// longTime bounds what happens at once on a machine that is not overloaded.
const longTime = 60 * time.Second

// host is the least that can drive an agent: the protocol, without a client library's comforts. One operation is one new stream.
type host struct {
	t    testing.TB
	addr string // of the agent
	dir  string // holds the sockets of the ports on which the host listens

	mux *yamux.Session
}

// serveAgent runs a on a unix socket and gives a host that is connected to it. Both end with the test.
func serveAgent(t testing.TB, a *Agent, dir string) *host {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v; want nil", err)
		}
	})
	return dialAgent(t, l.Addr().String(), dir)
}

func dialAgent(t testing.TB, addr, dir string) *host {
	t.Helper()
	conn, err := net.Dial("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	if err := protocol.WriteHello(conn, &pb.Hello{Software: "test", Instance: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.ReadHello(conn); err != nil {
		t.Fatal(err)
	}
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive = false
	cfg.LogOutput, cfg.Logger = nil, log.New(io.Discard, "", 0)
	mux, err := yamux.Client(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := mux.GoAway(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mux.Close() })
	return &host{t: t, addr: addr, dir: dir, mux: mux}
}

// dialPort is the agent's way to the ports of a host whose sockets are in dir.
func dialPort(dir string) func(context.Context, uint32) (net.Conn, error) {
	return func(ctx context.Context, port uint32) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, strconv.FormatUint(uint64(port), 10)))
	}
}

// call is an operation that is going on.
type call struct {
	t      testing.TB
	stream *yamux.Stream
}

func (h *host) begin(req *pb.Request) *call {
	h.t.Helper()
	st, err := h.mux.OpenStream()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := protocol.WriteMessage(st, protocol.MaxMessage, protocol.KindRequest, req); err != nil {
		h.t.Fatal(err)
	}
	return &call{t: h.t, stream: st}
}

// next gives the next message. A progress is not the last.
func (c *call) next() (*pb.Response, bool, error) {
	_ = c.stream.SetReadDeadline(time.Now().Add(longTime))
	kind, resp, err := protocol.ReadResponse(c.stream, protocol.MaxMessage)
	return resp, kind == protocol.KindProgress, err
}

// progress gives the next message, which must be a progress.
func (c *call) progress() *pb.Response {
	c.t.Helper()
	resp, more, err := c.next()
	if err != nil || !more {
		c.t.Fatalf("next message = %v, progress %v, %v; want a progress", resp, more, err)
	}
	return resp
}

// result skips progress and gives the end of the operation.
func (c *call) result() (*pb.Response, error) {
	defer c.stream.Close()
	for {
		resp, more, err := c.next()
		if err != nil || !more {
			return resp, err
		}
	}
}

// cancel closes the stream.
func (c *call) cancel() { _ = c.stream.Close() }

// do does a whole operation.
func (h *host) do(req *pb.Request) (*pb.Response, error) {
	h.t.Helper()
	return h.begin(req).result()
}

// must does an operation that succeeds.
func (h *host) must(req *pb.Request) *pb.Response {
	h.t.Helper()
	resp, err := h.do(req)
	if err != nil {
		h.t.Fatalf("%T = %v; want success", req.Op, err)
	}
	return resp
}

// fails does an operation that must fail with the error kind.
func (h *host) fails(req *pb.Request, kind error) *pb.Error {
	h.t.Helper()
	resp, err := h.do(req)
	var se *protocol.StatusError
	if !errors.Is(err, kind) || !errors.As(err, &se) {
		h.t.Fatalf("%T = %v, %v; want %v", req.Op, resp, err, kind)
	}
	return se.PB
}

func newID() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return b
}

// The requests, with a new request id each.

func createReq(c *pb.Create) *pb.Request {
	if c.RequestId == nil {
		c.RequestId = newID()
	}
	return &pb.Request{Op: &pb.Request_Create{Create: c}}
}

func startReq(id string) *pb.Request {
	return &pb.Request{Op: &pb.Request_Start{Start: &pb.Start{RequestId: newID(), Id: id}}}
}

func waitReq(id string) *pb.Request {
	return &pb.Request{Op: &pb.Request_Wait{Wait: &pb.Wait{Id: id}}}
}

func killReq(id string, sig uint32, all bool) *pb.Request {
	return &pb.Request{Op: &pb.Request_Kill{Kill: &pb.Kill{RequestId: newID(), Id: id, Signal: sig, All: all}}}
}

func deleteReq(id string, force bool) *pb.Request {
	return &pb.Request{Op: &pb.Request_Delete{Delete: &pb.Delete{RequestId: newID(), Id: id, Force: force}}}
}

func listReq() *pb.Request { return &pb.Request{Op: &pb.Request_List{List: &pb.List{}}} }

// streams is the host's end of a process's stdio: one port, and what came over it.
type streams struct {
	t     testing.TB
	port  uint32
	l     net.Listener
	token [3]protocol.Token
	use   [3]bool
	input []byte

	work sync.WaitGroup
	mu   sync.Mutex
	out  [3]bytes.Buffer
	end  [3]bool
}

// listen begins to wait for the streams: input for stdin if it is not nil, and the named outputs.
func (h *host) listen(port uint32, input []byte, outputs ...pb.Stream) *streams {
	h.t.Helper()
	l, err := net.Listen("unix", filepath.Join(h.dir, strconv.FormatUint(uint64(port), 10)))
	if err != nil {
		h.t.Fatal(err)
	}
	s := &streams{t: h.t, port: port, l: l, input: input}
	s.use[0] = input != nil
	for _, o := range outputs {
		s.use[o] = true
	}
	for i := range s.token {
		_, _ = rand.Read(s.token[i][:])
	}
	s.work.Go(s.accept)
	h.t.Cleanup(func() {
		_ = l.Close()
		s.work.Wait()
	})
	return s
}

// stdio is what Create is told.
func (s *streams) stdio() []*pb.Stdio {
	var out []*pb.Stdio
	for i, use := range s.use {
		if use {
			out = append(out, &pb.Stdio{Stream: pb.Stream(i), Port: s.port, Token: s.token[i][:]})
		}
	}
	return out
}

func (s *streams) accept() {
	for {
		conn, err := s.l.Accept()
		if err != nil {
			return
		}
		s.work.Go(func() {
			defer conn.Close()
			_ = s.serve(conn)
		})
	}
}

func (s *streams) serve(conn net.Conn) error {
	p, err := protocol.ReadPreamble(conn)
	if err != nil {
		return err
	}
	if !s.token[p.Stream].Equal(p.Token) {
		return errors.New("wrong token")
	}
	var accept [protocol.AcceptSize]byte
	copy(accept[:], "bhok")
	binary.BigEndian.PutUint32(accept[4:], p.Generation)
	binary.BigEndian.PutUint64(accept[8:], p.Offset)
	if _, err := conn.Write(accept[:]); err != nil {
		return err
	}
	if p.Stream == pb.Stream_STREAM_STDIN {
		return s.send(conn)
	}
	return s.receive(conn, int(p.Stream))
}

// send sends all input and its end, and waits for the guest's last word.
func (s *streams) send(conn net.Conn) error {
	go func() {
		for rest := s.input; len(rest) > 0; {
			n := min(len(rest), 64<<10)
			b := make([]byte, 4, 4+n)
			protocol.PutChunkHeader(b, n)
			if _, err := conn.Write(append(b, rest[:n]...)); err != nil {
				return
			}
			rest = rest[n:]
		}
		_, _ = conn.Write(protocol.AppendEnd(nil, uint64(len(s.input))))
	}()
	_, err := io.Copy(io.Discard, conn)
	return err
}

// receive reads chunks until the end, and acknowledges.
func (s *streams) receive(conn net.Conn, i int) error {
	for {
		var hdr [protocol.ChunkHeaderSize]byte
		if _, err := io.ReadFull(conn, hdr[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(hdr[:])
		if n == 0 {
			break
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		s.mu.Lock()
		s.out[i].Write(b)
		total := uint64(s.out[i].Len())
		s.mu.Unlock()
		if _, err := conn.Write(protocol.Record{Type: protocol.RecordAck, Offset: total}.Append(nil)); err != nil {
			return err
		}
	}
	var total [8]byte
	if _, err := io.ReadFull(conn, total[:]); err != nil {
		return err
	}
	s.mu.Lock()
	s.end[i] = true
	have := uint64(s.out[i].Len())
	s.mu.Unlock()
	if want := binary.BigEndian.Uint64(total[:]); want != have {
		return fmt.Errorf("the end says %d bytes, %d came", want, have)
	}
	_, err := conn.Write(protocol.Record{Type: protocol.RecordEndAcked, Offset: have}.Append(nil))
	_, _ = io.Copy(io.Discard, conn)
	return err
}

// output gives what came so far, and whether it was all.
func (s *streams) output(st pb.Stream) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out[st].String(), s.end[st]
}
