package hostclient

import (
	"context"
	"fmt"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Ping asks the agent for an answer.
func (c *Client) Ping(ctx context.Context) error { return c.call(ctx, pingOperation()) }

func pingOperation() operation {
	return operation{
		what:    "ping the guest",
		request: &pb.Request{Op: &pb.Request_Ping{Ping: &pb.Ping{}}},
		repeat:  true,
		result:  expect((*pb.Response).GetPong, nil),
	}
}

// Info describes the guest.
func (c *Client) Info(ctx context.Context) (*GuestInfo, error) {
	var info *pb.GuestInfo
	err := c.call(ctx, operation{
		what:    "get information about the guest",
		request: &pb.Request{Op: &pb.Request_Info{Info: &pb.Info{}}},
		repeat:  true,
		result:  expect((*pb.Response).GetInfo, &info),
	})
	if err != nil {
		return nil, err
	}
	return guestInfo(info), nil
}

// List describes every process that exists in the guest, exited ones too until they are deleted.
func (c *Client) List(ctx context.Context) ([]ProcessInfo, error) {
	listed, err := c.list(ctx, nil)
	if err != nil {
		return nil, err
	}
	infos := make([]ProcessInfo, len(listed.Processes))
	for i, p := range listed.Processes {
		infos[i] = c.processInfo(p)
	}
	return infos, nil
}

// list collects the parts in which the guest answers. An answer that is repeated begins anew.
func (c *Client) list(ctx context.Context, guest *instanceID) (*pb.Listed, error) {
	all := new(pb.Listed)
	part := func(r *pb.Response) error {
		listed := r.GetListed()
		if listed == nil {
			return errUnexpected
		}
		if len(all.Processes)+len(listed.Processes) > protocol.MaxProcesses {
			return fmt.Errorf("%w: more than %d processes", protocol.ErrProtocol, protocol.MaxProcesses)
		}
		all.Processes = append(all.Processes, listed.Processes...)
		return nil
	}
	err := c.call(ctx, operation{
		what:     "list processes",
		request:  &pb.Request{Op: &pb.Request_List{List: &pb.List{}}},
		repeat:   true,
		guest:    guest,
		sending:  func() { all.Processes = nil },
		progress: part,
		result:   part,
	})
	return all, err
}

// Mount describes a mount in the guest's own root, as mount(8) does.
type Mount struct {
	Source  string
	Target  string   // absolute; made if missing
	Type    string   // of the file system
	Options []string // ro, nosuid, bind, …; what mount(8) doesn't know goes to the file system
}

// Mount mounts m in the guest. It is not repeated when its answer is lost: the error then wraps errdefs.ErrUnavailable, and the mount may exist.
func (c *Client) Mount(ctx context.Context, m Mount) error {
	return c.call(ctx, operation{
		what: fmt.Sprintf("mount %s at %s", m.Source, m.Target),
		request: &pb.Request{Op: &pb.Request_Mount{Mount: &pb.Mount{
			Source: m.Source, Target: m.Target, Type: m.Type, Options: m.Options,
		}}},
		result: expect((*pb.Response).GetMounted, nil),
	})
}

// Unmount unmounts what is at target. It is not repeated when its answer is lost, as [Client.Mount].
func (c *Client) Unmount(ctx context.Context, target string) error {
	return c.call(ctx, operation{
		what:    "unmount " + target,
		request: &pb.Request{Op: &pb.Request_Unmount{Unmount: &pb.Unmount{Target: target}}},
		result:  expect((*pb.Response).GetUnmounted, nil),
	})
}

// Shutdown ends the guest in an orderly way: its processes are killed, its disks unmounted, the machine powered off. It returns when the agent has begun;
// the connection is lost soon after.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.shutdown(ctx, "shut the guest down", pb.ShutdownMode_SHUTDOWN_MODE_POWER_OFF)
}

// Reboot is [Client.Shutdown] with a restart of the machine, where its monitor allows one.
func (c *Client) Reboot(ctx context.Context) error {
	return c.shutdown(ctx, "reboot the guest", pb.ShutdownMode_SHUTDOWN_MODE_REBOOT)
}

func (c *Client) shutdown(ctx context.Context, what string, mode pb.ShutdownMode) error {
	return c.call(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_Shutdown{Shutdown: &pb.Shutdown{Mode: mode}}},
		result:  expect((*pb.Response).GetShuttingDown, nil),
	})
}
