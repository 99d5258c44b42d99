package hostclient

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// PodConfig describes a pod.
type PodConfig struct {
	// ID names the pod in the guest; it is that of a container. Empty: one is made up.
	ID string

	// Share are the namespaces that the containers of the pod have together; nil is network, IPC and UTS. Once a PID namespace is shared, the containers see and may signal each other's processes.
	// With IPC goes the pod's /dev/shm, see the type [Share]: 64 MB, unless Config says otherwise.
	Share []specs.LinuxNamespaceType

	// Hostname is the pod's, if the UTS namespace is shared.
	Hostname string

	// NetDevices are interfaces of the guest, by their names there, that move into the pod's network, with their addresses.
	NetDevices map[string]specs.LinuxNetDevice

	// Config, if not nil, has the last word on the container that holds the pod together: its limits, its users, its sysctls.
	Config func(*ProcessConfig)
}

// Pod is containers that share namespaces. A process that only waits holds them, so its containers may come and go.
type Pod struct {
	client  *Client
	process *Process
	share   []specs.LinuxNamespaceType

	mu      sync.Mutex
	members []string
}

// NewPod makes a pod without containers. Delete ends it; it outlives the client otherwise.
func (c *Client) NewPod(ctx context.Context, cfg PodConfig) (*Pod, error) {
	if cfg.Share == nil {
		cfg.Share = []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace}
	}
	pc := ProcessConfig{ID: cfg.ID, Spec: podSpec(&cfg), BuiltIn: BuiltInPause}
	if cfg.Config != nil {
		cfg.Config(&pc)
	}
	p, err := c.NewProcess(pc)
	if err != nil {
		return nil, err
	}
	if err := p.Launch(ctx); err != nil {
		return nil, errors.Join(err, p.cleanUp(ctx))
	}
	return &Pod{client: c, process: p, share: cfg.Share}, nil
}

// podSpec describes the container of the pause process: without a root and without privilege.
func podSpec(cfg *PodConfig) *specs.Spec {
	spec := &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Cwd: "/", NoNewPrivileges: true},
		Mounts:  podMounts(cfg.Share),
		Linux: &specs.Linux{
			MaskedPaths: defaultMaskedPaths(), ReadonlyPaths: defaultReadonlyPaths(),
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}},
			Resources:  &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			NetDevices: cfg.NetDevices,
		},
	}
	for _, t := range cfg.Share {
		if t != specs.PIDNamespace {
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: t})
		}
	}
	if slices.Contains(cfg.Share, specs.UTSNamespace) {
		spec.Hostname = cfg.Hostname
	}
	return spec
}

// podMounts are those of the pause process: what it needs, and the shared memory of the pod.
func podMounts(share []specs.LinuxNamespaceType) []specs.Mount {
	keep := []string{"/proc", "/dev"}
	if slices.Contains(share, specs.IPCNamespace) {
		keep = append(keep, "/dev/shm")
	}
	return slices.DeleteFunc(defaultMounts(), func(m specs.Mount) bool { return !slices.Contains(keep, m.Destination) })
}

// ID gives the pod's name in the guest.
func (p *Pod) ID() string { return p.process.ID() }

// NewContainer describes a container of the pod, as [Client.NewContainer] does. What its spec says of namespaces that the pod shares is the pod's to say.
func (p *Pod) NewContainer(id string, spec *specs.Spec) *Container {
	k := p.client.NewContainer(id, spec)
	k.Share(p.client.Container(p.ID()), p.share...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = append(p.members, k.id)
	return k
}

// Delete kills what runs in the containers that this object made, deletes them, and then the pod itself. After an error it may be tried again.
func (p *Pod) Delete(ctx context.Context) error {
	p.mu.Lock()
	members := slices.Clone(p.members)
	p.mu.Unlock()
	var errs []error
	for _, id := range members {
		if err := p.client.Container(id).Delete(ctx); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err := p.process.ForceDelete(ctx)
	return err
}
