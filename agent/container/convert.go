//go:build linux

package container

import (
	"slices"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/configs/validate"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/rlimit"
)

// newConfig makes libcontainer's configuration, all but the path of the cgroup, and without the seccomp profile, if that is not for libcontainer.
func (r *Runtime) newConfig(id string, spec *specs.Spec, withSeccomp bool) (*configs.Config, error) {
	plain, linux := *spec, *spec.Linux
	plain.Linux = &linux
	if !withSeccomp {
		linux.Seccomp = nil
	}
	plain.Mounts = withoutDefaults(spec.Mounts)
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: &plain})
	if err != nil {
		return nil, failure.Field("spec", "%v", err)
	}
	cfg.Cgroups.Name, cfg.Cgroups.Parent, cfg.Cgroups.Path = "", "", ""
	r.setHooks(cfg, spec.Hooks)
	if cfg.OomScoreAdj == nil { // the agent's own must not be inherited
		cfg.OomScoreAdj = new(int)
	}
	if err := validate.Validate(cfg); err != nil {
		return nil, failure.Field("spec", "%v", err)
	}
	return cfg, nil
}

// withoutDefaults leaves out the mount option "defaults", which says nothing, and which libcontainer would give to the file system.
func withoutDefaults(mounts []specs.Mount) []specs.Mount {
	out := slices.Clone(mounts)
	for i, m := range out {
		out[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "defaults" })
	}
	return out
}

// newProcess makes libcontainer's form of the first process. Its stdio is not set.
func newProcess(req *Request) (*libcontainer.Process, error) {
	p := req.Spec.Process
	limits, err := rlimits(p.Rlimits)
	if err != nil {
		return nil, err
	}
	lp := &libcontainer.Process{
		Init: true,
		Args: req.firstArgs(), Env: p.Env, Cwd: p.Cwd,
		UID: int(p.User.UID), GID: int(p.User.GID),
		Label: p.SelinuxLabel, AppArmorProfile: p.ApparmorProfile,
		NoNewPrivileges: &p.NoNewPrivileges,
		Scheduler:       p.Scheduler, IOPriority: p.IOPriority,
		Rlimits:  limits,
		LogLevel: "2", // errors; unset would mean debug messages
	}
	for _, g := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	lp.Capabilities = new(configs.Capabilities) // none where the spec names none: without this, it would be all of the agent's
	if c := p.Capabilities; c != nil {
		*lp.Capabilities = configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	return lp, nil
}

// rlimits converts limits; those that the spec does not name are the defaults, not the agent's own.
func rlimits(in []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	var out []configs.Rlimit
	seen := make(map[int]bool)
	for _, l := range in {
		n, ok := rlimit.Number(l.Type)
		switch {
		case !ok:
			return nil, failure.Field("process.rlimits", "no such limit as %.64q", l.Type)
		case seen[n]:
			return nil, failure.Field("process.rlimits", "%s is there twice", l.Type)
		case l.Soft > l.Hard:
			return nil, failure.Field("process.rlimits", "%s: the soft limit is above the hard one", l.Type)
		}
		seen[n] = true
		out = append(out, configs.Rlimit{Type: n, Soft: l.Soft, Hard: l.Hard})
	}
	for _, d := range rlimit.Defaults() {
		if !seen[d.Resource] {
			out = append(out, configs.Rlimit{Type: d.Resource, Soft: d.Soft, Hard: d.Hard})
		}
	}
	return out, nil
}
