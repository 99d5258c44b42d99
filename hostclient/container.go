package hostclient

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// Container is a container in the guest: a new one, described by an OCI runtime-spec, or one that exists. The container and its first process share one
// id; the container begins with that process and is deleted with it. Containers cannot be checkpointed: what can be saved and restored is the machine, by its monitor.
type Container struct {
	// Files are put into a new container.
	Files []ContainerFile

	client *Client
	id     string
	spec   *specs.Spec // nil: it exists
	share  []Share
}

// NewContainer describes a container. Nothing happens before its first process, [Container.Init], is started. [DefaultSpec] makes a spec for a rootfs.
// Everything that the spec names is in the guest. An empty id is made up.
func (c *Client) NewContainer(id string, spec *specs.Spec) *Container {
	if id == "" {
		id = madeUpID()
	}
	return &Container{client: c, id: id, spec: spec}
}

// Container is the container id that exists in the guest. That it does is noticed when it is used.
func (c *Client) Container(id string) *Container { return &Container{client: c, id: id} }

// ID gives the container's name in the guest.
func (k *Container) ID() string { return k.id }

// Init gives the container's first process as a command, with the arguments and settings of the spec. Starting it creates the container; its Wait deletes the
// container with everything in it.
func (k *Container) Init(ctx context.Context) *Cmd {
	return &Cmd{client: k.client, ctx: ctx, ID: k.id, Spec: k.spec, Files: k.Files, share: k.share}
}

// Command gives a further process in the container, as [Client.Command] does outside of containers. It has the environment, directory, user and
// privileges that the container's spec gives to the first one, as far as this Container has the spec or the agent knows it, and the container's seccomp filter; [Cmd.Config] can change
// all of it.
func (k *Container) Command(ctx context.Context, name string, arg ...string) *Cmd {
	cmd := k.client.Command(ctx, name, arg...)
	cmd.Container = k.id
	if k.spec != nil {
		cmd.base = k.spec.Process
	}
	return cmd
}

// Kill sends a signal to every process of the container.
func (k *Container) Kill(ctx context.Context, sig Signal) error {
	requestID := newID()
	return k.client.call(ctx, operation{
		what:    fmt.Sprintf("send %v to container %s", sig, k.id),
		request: &pb.Request{Op: &pb.Request_Kill{Kill: &pb.Kill{RequestId: requestID[:], Id: k.id, Signal: uint32(sig), All: true}}},
		repeat:  true,
		result:  expect((*pb.Response).GetKilled, nil),
	})
}

// Pause stops every process of the running container where it stands, execs too, and returns when all do. [Client.List] and [Client.Watch] then show them as [StatePaused]. A paused
// container takes no new execs. SIGKILL and [Container.Delete] work as ever; other signals arrive when it is resumed. As with runc and containerd, pausing a container
// that is paused, and one that has not been started or has exited, is errdefs.ErrFailedPrecondition. A process that the kernel cannot stop within 10 s is context.DeadlineExceeded,
// and then, as after every error, nothing is paused.
func (k *Container) Pause(ctx context.Context) error {
	requestID := newID()
	return k.client.call(ctx, operation{
		what:    "pause container " + k.id,
		request: &pb.Request{Op: &pb.Request_Pause{Pause: &pb.Pause{RequestId: requestID[:], Id: k.id}}},
		repeat:  true,
		result:  expect((*pb.Response).GetPaused, nil),
	})
}

// Resume lets a paused container go on. One that is not paused is errdefs.ErrFailedPrecondition.
func (k *Container) Resume(ctx context.Context) error {
	requestID := newID()
	return k.client.call(ctx, operation{
		what:    "resume container " + k.id,
		request: &pb.Request{Op: &pb.Request_Resume{Resume: &pb.Resume{RequestId: requestID[:], Id: k.id}}},
		repeat:  true,
		result:  expect((*pb.Response).GetResumed, nil),
	})
}

// Update changes the resources of a container that has not exited, running or paused: what r names, with the field rules of a new container's spec. What it does not name stays, and so does what it gives as 0. The rules of
// its devices cannot be changed. What the guest refuses is errdefs.ErrInvalidArgument, and the error names the field; everything is then as it was. A memory limit below what is in use makes the kernel take memory back, and
// kill if it cannot: CheckBeforeUpdate refuses it instead.
func (k *Container) Update(ctx context.Context, r *specs.LinuxResources) error {
	what := "update container " + k.id
	resources, err := json.Marshal(r)
	if err != nil {
		return operationError(what, invalid("resources: %v", err))
	}
	return k.client.call(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_Update{Update: &pb.Update{Id: k.id, Resources: resources}}},
		repeat:  true,
		result:  expect((*pb.Response).GetUpdated, nil),
	})
}

// Statistics reads what the container uses. See [Client.Statistics], which reads those of many at once.
func (k *Container) Statistics(ctx context.Context) (*ContainerStatistics, error) {
	all, err := k.client.Statistics(ctx, k.id)
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

// Delete kills what runs in the container and removes it. It is for containers whose first process this program has no object of; otherwise use that.
func (k *Container) Delete(ctx context.Context) error {
	what := "delete container " + k.id
	if err := protocol.CheckID(k.id); err != nil {
		return operationError(what, err)
	}
	requestID := newID()
	return k.client.call(ctx, operation{
		what:    what,
		request: &pb.Request{Op: &pb.Request_Delete{Delete: &pb.Delete{RequestId: requestID[:], Id: k.id, Force: true}}},
		repeat:  true,
		result:  expect((*pb.Response).GetDeleted, nil),
	})
}
