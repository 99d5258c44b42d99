//go:build linux

package agent

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/control"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func (a *Agent) info() *pb.Response {
	t := a.cfg.Timeline
	return &pb.Response{What: &pb.Response_Info{Info: &pb.GuestInfo{
		Software:      a.cfg.Software,
		KernelRelease: kernelRelease(),
		Architecture:  runtime.GOARCH,
		MemoryBytes:   memory(),
		Cpus:          uint32(runtime.NumCPU()),
		Pid1:          a.cfg.PID1,
		AgentPid:      uint32(os.Getpid()),
		Timeline: &pb.Timeline{
			Init: nanos(t.Init), Main: nanos(t.Main), Listen: nanos(t.Listen), Hello: nanos(a.hello), Now: nanos(bootTime()),
		},
	}}}
}

func nanos(d time.Duration) uint64 { return uint64(max(d, 0)) }

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// listPart is how many processes one answer of List holds. The largest description has some 600 bytes, so a part is far below any message limit.
const listPart = 256

// list answers in parts, since all processes together may be larger than a message.
func (a *Agent) list(call *control.Call) (*pb.Response, error) {
	part := new(pb.Listed)
	for _, p := range a.table.All() {
		if len(part.Processes) == listPart {
			if err := call.Progress(&pb.Response{What: &pb.Response_Listed{Listed: part}}); err != nil {
				return nil, fmt.Errorf("cannot send processes: %w", err)
			}
			part = new(pb.Listed)
		}
		part.Processes = append(part.Processes, p.Info())
	}
	return &pb.Response{What: &pb.Response_Listed{Listed: part}}, nil
}
