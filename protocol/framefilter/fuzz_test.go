package framefilter

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// drive sends frames to a live session behind a filter, and gives why the filter and the session ended. The connection ends behind the last frame, once done
// is true of what was reached. Everything that drive starts has ended when it returns.
func drive(role Role, frames [][]byte, done func(*reached) bool) (r *reached, refused, ended error) {
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
		open(session, r, &all)
	}
	all.Go(func() {
		defer peer.Close()
		write(peer, frames)
		for deadline := time.Now().Add(testBound); !done(r) && time.Now().Before(deadline) && conn.Err() == nil; {
			runtime.Gosched()
		}
	})
	ended = accept(session, r, &all)
	return r, conn.Err(), ended
}

// write sends frames until one is refused.
func write(peer net.Conn, frames [][]byte) {
	for _, f := range frames {
		if _, err := peer.Write(f); err != nil {
			return
		}
	}
}

// open opens streams 1 to 7 as a host does, and uses them.
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
	{1, flagACK, 1, 7, 1, 0, 1, 4},                                      // window overflow
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
			_, refused, ended := drive(role, script(fuzzed), func(*reached) bool { return true })
			if err := passed(refused, ended); err != nil {
				t.Errorf("role %d: %v", role, err)
			}
		}
	})
}

// passed is an error if the session ended for something that the filter should have refused. (ErrUnexpectedFlag is not among these: a second FIN that comes
// just when the stream is gone counts as late, and yamux may not have removed the stream yet. It then ends the session of a peer that broke the rules.)
func passed(refused, ended error) error {
	if refused != nil {
		return nil
	}
	for _, sentinel := range []error{
		yamux.ErrInvalidVersion, yamux.ErrInvalidMsgType, yamux.ErrDuplicateStream, yamux.ErrRecvWindowExceeded,
	} {
		if errors.Is(ended, sentinel) {
			return fmt.Errorf("yamux refused what the filter let pass: %w", ended)
		}
	}
	return nil
}

// TestFuzzSessionReaches proves that the fuzz target drives the live state machine and not only the filter.
func TestFuzzSessionReaches(t *testing.T) {
	for _, test := range []struct {
		seed                   int
		role                   Role
		accepted, echoed, read int64
		refused                bool
	}{
		{0, Guest, 1, 40, 0, false},
		{2, Guest, 2, 0, 0, false},
		{3, Host, 0, 0, 40, false},
		{4, Host, 0, 0, 0, true},
		{5, Guest, 0, 0, 0, true},
		{7, Guest, 0, 0, 0, true},
	} {
		enough := func(r *reached) bool {
			return r.accepted.Load() >= test.accepted && r.echoed.Load() >= test.echoed && r.read.Load() >= test.read
		}
		r, refused, ended := drive(test.role, script(sessionSeeds[test.seed]), enough)
		if test.refused {
			if refused == nil {
				t.Errorf("seed %d, role %d: nothing refused (%v); want a refusal", test.seed, test.role, ended)
			}
			continue
		}
		if !enough(r) || refused != nil {
			t.Errorf("seed %d, role %d: %d accepted, %d echoed, %d read, %v; want %d, %d, %d, nil", test.seed, test.role,
				r.accepted.Load(), r.echoed.Load(), r.read.Load(), refused, test.accepted, test.echoed, test.read)
		}
	}
}
