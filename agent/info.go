//go:build linux

package agent

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

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

func (a *Agent) list() *pb.Response {
	out := new(pb.Listed)
	for _, p := range a.table.All() {
		out.Processes = append(out.Processes, p.Info())
	}
	return &pb.Response{What: &pb.Response_Listed{Listed: out}}
}
