package hostclient

import (
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// TestLaunchIsNotRepeated loses the connection of a process that runs: the wait goes on by itself. To repeat the whole operation would make the process again if it has been deleted meanwhile.
func TestLaunchIsNotRepeated(t *testing.T) {
	checkLeaks(t)
	g := newFakeGuest(t)
	var creates atomic.Int32
	launched := make(chan struct{})
	exited := &pb.Exited{Code: 3}
	drained := &pb.Response{What: &pb.Response_Drained{Drained: &pb.Drained{Exited: exited}}}
	g.handler = func(c *fakeCall) {
		switch c.req.Op.(type) {
		case *pb.Request_Create:
			c.progress(&pb.Response{What: &pb.Response_Started{Started: &pb.Started{Pid: 7}}})
			if creates.Add(1) > 1 {
				c.result(drained)
				return
			}
			<-launched
			c.cut()
		case *pb.Request_Wait:
			c.progress(&pb.Response{What: &pb.Response_Exited{Exited: exited}})
			c.result(drained)
		default:
			g.table.serve(c)
		}
	}
	c := connect(t, g, nil)
	p, err := c.NewProcess(ProcessConfig{Process: &specs.Process{Args: []string{"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(launched)
	if status, err := p.Wait(t.Context()); err != nil || status.Code != 3 {
		t.Errorf("Wait() = %+v, %v; want code 3", status, err)
	}
	if n := creates.Load(); n != 1 {
		t.Errorf("%d creates; want one", n)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Errorf("Delete() = %v", err)
	}
}
