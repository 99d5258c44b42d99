package framefilter

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/yamux"
)

// script turns fuzzed bytes into frames that are mostly plausible, so that the mutations reach past the first check: each 4 bytes are type, flags,
// stream, and one of the lengths that matter.
func script(fuzzed []byte) [][]byte {
	lengths := []uint32{0, 1, 40, 4096, half, initialWindow, initialWindow + 1, top, top + 1, 1<<32 - 1}
	var frames [][]byte
	for len(fuzzed) >= 4 && len(frames) < 64 {
		h := header{
			version: fuzzed[0] >> 7,
			typ:     fuzzed[0] % 5,
			flags:   uint16(fuzzed[1] % 32),
			stream:  uint32(fuzzed[2] % 16),
			length:  lengths[int(fuzzed[3])%len(lengths)],
		}
		if h.typ == typeData && h.length > initialWindow+1 {
			h.length = uint32(fuzzed[3]) // a body that long need not be made
		}
		frames = append(frames, h.encode())
		fuzzed = fuzzed[4:]
	}
	return frames
}

// reached counts what the live session did.
type reached struct{ accepted, echoed, read atomic.Int64 }

// drive sends frames to a live session behind a filter, and gives why the filter and the session ended. Everything that it starts has ended when it returns.
func drive(role Role, frames [][]byte) (r *reached, refused, ended error) {
	own, peer := net.Pipe()
	conn := New(own, role, Limits{})
	var all sync.WaitGroup
	defer all.Wait()
	defer peer.Close()
	all.Go(func() { io.Copy(io.Discard, peer) })
	r = new(reached)
	make := yamux.Client
	if role == Guest {
		make = yamux.Server
	}
	session, err := make(conn, config())
	if err != nil {
		return r, nil, err
	}
	defer session.Close()
	if role == Host {
		all.Go(func() { open(session, r, &all) })
	}
	all.Go(func() { write(peer, frames) })
	ended = accept(session, r, &all)
	return r, conn.Err(), ended
}

// write sends the frames, and the end of the connection.
func write(peer net.Conn, frames [][]byte) {
	defer peer.Close()
	for _, f := range frames {
		if _, err := peer.Write(f); err != nil {
			return
		}
	}
}

// open opens streams as a host does, and uses them.
func open(session *yamux.Session, r *reached, all *sync.WaitGroup) {
	for range 4 {
		s, err := session.Open()
		if err != nil {
			return
		}
		all.Go(func() {
			defer s.Close()
			s.Write([]byte("request"))
			n, _ := io.Copy(io.Discard, s)
			r.read.Add(n)
		})
	}
}

// accept echoes streams until the session ends.
func accept(session *yamux.Session, r *reached, all *sync.WaitGroup) error {
	for {
		s, err := session.Accept()
		if err != nil {
			return err
		}
		r.accepted.Add(1)
		all.Go(func() {
			defer s.Close()
			n, _ := io.Copy(s, s)
			r.echoed.Add(n)
		})
	}
}

// sessionSeeds are scripts that reach deep, for both roles.
var sessionSeeds = [][]byte{
	{1, flagSYN, 1, 0, 0, 0, 1, 2, 0, flagFIN, 1, 0},                    // open, 40 bytes, end
	{1, flagSYN, 1, 0, 0, 0, 1, 5, 0, 0, 1, 1},                          // a full window, and more
	{1, flagSYN, 3, 0, 1, flagSYN, 1, 0, 1, flagRST, 3, 0, 0, 0, 3, 4},  // out of order, reset, late data
	{1, flagACK, 1, 0, 0, 0, 1, 2, 0, 0, 1, 3, 1, flagFIN, 1, 0},        // a guest's answers
	{1, flagACK, 1, 7, 1, 0, 1, 1},                                      // window overflow
	{2, flagSYN, 0, 1, 2, flagACK, 0, 1, 3, 0, 0, 0},                    // ping, its answer, GoAway
	{3, 0, 0, 0, 1, flagSYN | flagFIN, 1, 0, 1, flagFIN, 1, 0, 4, 0, 0}, // GoAway, a second FIN, an unknown type
	{0x81, flagSYN, 1, 0}, {1, flagSYN | 16, 1, 0}, {1, flagSYN, 2, 0},  // version, flags, even id
}

// FuzzSession sends frames to a live yamux session behind the filter. Nothing may panic or hang, and nothing that yamux itself would refuse may pass.
func FuzzSession(f *testing.F) {
	for _, seed := range sessionSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		for _, role := range []Role{Host, Guest} {
			_, refused, ended := drive(role, script(fuzzed))
			if err := passed(refused, ended); err != nil {
				t.Errorf("role %d: %v", role, err)
			}
		}
	})
}

// passed is an error if the session ended for something that the filter should have refused.
func passed(refused, ended error) error {
	if refused != nil {
		return nil
	}
	for _, sentinel := range []error{
		yamux.ErrInvalidVersion, yamux.ErrInvalidMsgType, yamux.ErrDuplicateStream, yamux.ErrRecvWindowExceeded, yamux.ErrUnexpectedFlag,
	} {
		if errors.Is(ended, sentinel) {
			return fmt.Errorf("yamux refused what the filter let pass: %w", ended)
		}
	}
	return nil
}

// TestFuzzSessionReaches proves that the fuzz target drives the live state machine and not only the filter.
func TestFuzzSessionReaches(t *testing.T) {
	var accepted, echoed, read, refusals int64
	for _, seed := range sessionSeeds {
		for _, role := range []Role{Host, Guest} {
			r, refused, _ := drive(role, script(seed))
			accepted += r.accepted.Load()
			echoed += r.echoed.Load()
			read += r.read.Load()
			if refused != nil {
				refusals++
			}
		}
	}
	if accepted < 4 || echoed < 40 || refusals < 8 {
		t.Errorf("the seeds reach %d accepted streams, %d echoed bytes, %d bytes read, %d refusals; want at least 4, 40, -, 8", accepted, echoed, read, refusals)
	}
}
