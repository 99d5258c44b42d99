//go:build linux

package container

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/hook"
)

// hookGrace is what a hook may take beyond its timeout where libcontainer's init runs it.
const hookGrace = time.Second

// setHooks makes libcontainer call the hooks before the start: those of the agent's namespaces through the nursery, those of the container's, which libcontainer's init runs, with a
// timeout each. The hooks after the start are the Container's own to run: libcontainer would call poststart before the program runs, and stop at the first poststop that fails.
func (r *Runtime) setHooks(cfg *configs.Config, hooks *specs.Hooks) {
	made := cfg.Hooks
	cfg.Hooks = configs.Hooks{}
	if hooks == nil {
		return
	}
	cfg.Hooks[configs.CreateContainer] = boundHooks(made[configs.CreateContainer], hooks.CreateContainer)
	cfg.Hooks[configs.StartContainer] = boundHooks(made[configs.StartContainer], hooks.StartContainer)
	//lint:ignore SA1019 deprecated, and supported
	cfg.Hooks[configs.Prestart] = r.runtimeHooks(hooks.Prestart)
	cfg.Hooks[configs.CreateRuntime] = r.runtimeHooks(hooks.CreateRuntime)
}

func (r *Runtime) runtimeHooks(list []specs.Hook) (out configs.HookList) {
	for _, h := range list {
		out = append(out, configs.NewFunctionHook(func(s *specs.State) error { return hook.Run(context.Background(), r.cfg.Spawner, h, s) }))
	}
	return out
}

// boundHooks gives a timeout to every hook.
func boundHooks(list configs.HookList, spec []specs.Hook) (out configs.HookList) {
	for i, h := range list {
		bounded := *h.(configs.CommandHook).Command
		bound := hook.Timeout(spec[i])
		bounded.Timeout = &bound
		out = append(out, configs.NewCommandHook(&bounded))
	}
	return out
}

// containerHooksBound is how long the hooks of one kind may take that libcontainer's init runs; 0 without hooks. It kills a hook whose time is up, and then waits for whoever
// holds the hook's output, for ever if that one likes.
func containerHooksBound(list []specs.Hook) time.Duration {
	var sum time.Duration
	for _, h := range list {
		sum += hook.Timeout(h) + hookGrace
	}
	return sum
}

// createBound is what making a container may take after its createContainer hooks.
const createBound = 20 * time.Second

// followHooks prepares for the hooks that run while the container is made. They may last, and wait for another container: so done, which gives the turn back, is called before the first. Those that
// libcontainer's init runs are bounded from when they are next; stop, to be called when the container is made, ends that.
func (c *Container) followHooks(cfg *configs.Config, done func()) (stop func()) {
	h := c.spec.Hooks
	if h == nil {
		return func() {}
	}
	unbound := func() bool { return false }
	//lint:ignore SA1019 deprecated, and supported
	if len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 {
		cfg.Hooks[configs.Prestart] = append(configs.HookList{calling(done)}, cfg.Hooks[configs.Prestart]...)
	}
	if len(h.CreateContainer) > 0 {
		cfg.Hooks[configs.CreateRuntime] = append(cfg.Hooks[configs.CreateRuntime], calling(func() {
			unbound = c.killAfter(createBound + containerHooksBound(h.CreateContainer))
		}))
	}
	return func() { unbound() }
}

// calling makes a hook of a function.
func calling(f func()) configs.Hook {
	return configs.NewFunctionHook(func(*specs.State) error {
		f()
		return nil
	})
}

// poststart runs the hooks that belong between the program's start and the answer to it. One that fails stops the container (runtime-spec, Lifecycle 9).
func (c *Container) poststart(ctx context.Context) error {
	if c.spec.Hooks == nil || len(c.spec.Hooks.Poststart) == 0 {
		return nil
	}
	state, err := c.lc.OCIState()
	if err != nil {
		return fmt.Errorf("cannot tell the container's state: %w", err)
	}
	for _, h := range c.spec.Hooks.Poststart {
		if err := hook.Run(ctx, c.spawner, h, state); err != nil {
			if kerr := c.group.Kill(); kerr != nil {
				c.log.Error("cannot stop a container whose poststart hook failed", "container", c.id, "err", kerr)
			}
			return failure.Step(err, "poststart")
		}
	}
	return nil
}

// stoppedState is what the poststop hooks are told; nil if there are none: libcontainer looks for the dead process in a proc that it mounts for that, and the kernel takes longer to
// unmount it than for all else in a container's end.
func (c *Container) stoppedState() (*specs.State, error) {
	if c.spec.Hooks == nil || len(c.spec.Hooks.Poststop) == 0 {
		return nil, nil
	}
	state, err := c.lc.OCIState()
	if err != nil {
		return nil, fmt.Errorf("cannot tell the container's state: %w", err)
	}
	state.Status, state.Pid = specs.StateStopped, 0
	return state, nil
}

// poststop runs the hooks after the container's end. Their errors change nothing (runtime-spec, Lifecycle 13).
func (c *Container) poststop(state *specs.State) {
	if state == nil {
		return
	}
	for _, h := range c.spec.Hooks.Poststop {
		if err := hook.Run(context.Background(), c.spawner, h, state); err != nil {
			c.log.Warn("a poststop hook failed", "container", c.id, "err", err)
		}
	}
}
