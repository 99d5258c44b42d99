//go:build linux

package spawn

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/agent/rlimit"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// defaultPath is the PATH of an exec whose environment has none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// newRequest checks p and makes the nursery's request, all but the files and what resolveUser sets. What p leaves open is taken from the spec of the container, as runc does.
func newRequest(p *pb.Process, c *container.Container) (*nursery.Request, error) {
	if err := CheckProcess(p); err != nil {
		return nil, err
	}
	req := &nursery.Request{
		Terminal: p.Terminal,
		Args:     p.Args, Cwd: p.Cwd,
		NoNewPrivs: p.NoNewPrivileges,
		AppArmor:   p.ApparmorProfile, SELinux: p.SelinuxLabel,
		Umask: umask(p, c),
	}
	for _, fill := range []func(*nursery.Request, *pb.Process, *container.Container) error{
		fillRlimits, fillCapabilities, fillScheduling, fillScore, fillContainer,
	} {
		if err := fill(req, p, c); err != nil {
			return nil, err
		}
	}
	return req, nil
}

// CheckProcess refuses what no process can be made of.
func CheckProcess(p *pb.Process) error {
	if p == nil {
		return failure.Field("process", "missing")
	}
	if len(p.Args) == 0 || p.Args[0] == "" {
		return failure.Field("process.args", "must name a program")
	}
	if u := p.User; u != nil && u.Username != "" && (u.Uid != 0 || u.Gid != 0) {
		return failure.Field("process.user", "has a username, so uid and gid must be 0")
	}
	if p.Cwd != "" && !path.IsAbs(p.Cwd) {
		return failure.Field("process.cwd", "%.64q, must be an absolute path", p.Cwd)
	}
	size := 0
	for _, s := range slices.Concat(p.Args, p.Env, []string{p.Cwd}) {
		if strings.ContainsRune(s, 0) {
			return failure.Field("process", "%.64q contains a NUL byte", s)
		}
		size += len(s) + 1
	}
	if size > protocol.MaxArgsAndEnv {
		return failure.Field("process", "args and env of %d bytes, at most %d", size, protocol.MaxArgsAndEnv)
	}
	for _, e := range p.Env {
		if strings.IndexByte(e, '=') <= 0 {
			return failure.Field("process.env", "%.64q, must be NAME=VALUE", e)
		}
	}
	return nil
}

// resolveUser finds the user and sets what depends on it: groups and HOME.
func resolveUser(req *nursery.Request, p *pb.Process, c *container.Container) error {
	id, err := Identify(p, func() (*rootfs.Dir, error) { return openRoot(c) })
	if err != nil {
		return err
	}
	req.UID, req.GID, req.Groups, req.Env = id.UID, id.GID, id.Groups, id.Env
	return nil
}

// umask is that of the request, else of the container; nil: neither says.
func umask(p *pb.Process, c *container.Container) *uint32 {
	switch {
	case p.User != nil && p.User.Umask != nil:
		return p.User.Umask
	case c != nil:
		return c.Spec().Process.User.Umask
	}
	return nil
}

// Identity is who a process runs as, with the environment that follows from it.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
	Env      []string // with PATH and HOME
}

// Identify resolves the user of p, which CheckProcess allows. It opens the root that the process will see only for what p does not say.
func Identify(p *pb.Process, open func() (*rootfs.Dir, error)) (*Identity, error) {
	u := p.User
	if u == nil {
		u = new(pb.User)
	}
	id := &Identity{UID: u.Uid, GID: u.Gid, Groups: u.AdditionalGids}
	env, hasHome := environment(p.Env)
	id.Env = env
	if u.Username == "" && hasHome {
		return id, nil
	}
	root, err := open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	home := ""
	if u.Username != "" {
		found, err := root.LookupUser(u.Username)
		if err != nil {
			return nil, failure.Step(err, "user %s", u.Username)
		}
		id.UID, id.GID, home = found.UID, found.GID, found.Home
		id.Groups = slices.Concat(found.Groups, u.AdditionalGids)
	}
	if !hasHome {
		if home == "" {
			home = root.Home(id.UID)
		}
		id.Env = append(env, "HOME="+home)
	}
	return id, nil
}

func openRoot(c *container.Container) (*rootfs.Dir, error) {
	if c == nil {
		return rootfs.Open("/")
	}
	return c.Root()
}

// environment drops earlier values of a name that comes again and an empty HOME, and adds PATH where it is missing. It also says whether there is a HOME.
func environment(env []string) (out []string, hasHome bool) {
	last := make(map[string]int, len(env))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		last[name] = i
	}
	out = make([]string, 0, len(env)+2)
	for i, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if last[name] != i || name == "HOME" && value == "" {
			continue
		}
		hasHome = hasHome || name == "HOME"
		out = append(out, e)
	}
	if _, ok := last["PATH"]; !ok {
		out = append(out, defaultPath)
	}
	return out, hasHome
}

// fillRlimits sets the limits of the request, or if it has none those of the container.
func fillRlimits(req *nursery.Request, p *pb.Process, c *container.Container) error {
	limits := p.Rlimits
	if len(limits) == 0 && c != nil {
		for _, l := range c.Spec().Process.Rlimits {
			limits = append(limits, &pb.Rlimit{Type: l.Type, Soft: l.Soft, Hard: l.Hard})
		}
	}
	for _, l := range limits {
		n, ok := rlimit.Number(l.Type)
		switch {
		case !ok:
			return failure.Field("process.rlimits", "no such limit as %.64q", l.Type)
		case slices.ContainsFunc(req.Rlimits, func(have nursery.Rlimit) bool { return have.Resource == n }):
			return failure.Field("process.rlimits", "%s is there twice", l.Type)
		case l.Soft > l.Hard:
			return failure.Field("process.rlimits", "%s: the soft limit is above the hard one", l.Type)
		}
		req.Rlimits = append(req.Rlimits, nursery.Rlimit{Resource: n, Soft: l.Soft, Hard: l.Hard})
	}
	return nil
}

// fillScore sets the OOM score: that of the request, else of the container, else 0, never the agent's own.
func fillScore(req *nursery.Request, p *pb.Process, c *container.Container) error {
	switch {
	case p.OomScoreAdj != nil:
		if *p.OomScoreAdj < -1000 || *p.OomScoreAdj > 1000 {
			return failure.Field("process.oom_score_adj", "%d, must be -1000 to 1000", *p.OomScoreAdj)
		}
		req.OOMScoreAdj = int(*p.OomScoreAdj)
	case c != nil && c.Spec().Process.OOMScoreAdj != nil:
		req.OOMScoreAdj = *c.Spec().Process.OOMScoreAdj
	}
	return nil
}

// fillContainer sets what belongs to the container and not to the request.
func fillContainer(req *nursery.Request, p *pb.Process, c *container.Container) error {
	if c == nil {
		if p.InheritSeccomp {
			return failure.Field("process.inherit_seccomp", "there is no container to inherit from")
		}
		return nil
	}
	spec := c.Spec()
	if req.AppArmor == "" {
		req.AppArmor = spec.Process.ApparmorProfile
	}
	if req.SELinux == "" {
		req.SELinux = spec.Process.SelinuxLabel
	}
	req.Keyring = "_ses." + c.ID() // libcontainer's name for the container's session keyring
	if d := spec.Linux.Personality; d != nil {
		domain := uint32(0)
		if d.Domain == specs.PerLinux32 {
			domain = perLinux32
		}
		req.Personality = &domain
	}
	if m := c.MemoryPolicy(); m != nil {
		req.MemoryPolicy = &nursery.MemoryPolicy{Mode: m.Mode | m.Flags, Nodes: m.Nodes}
	}
	if p.InheritSeccomp {
		req.Seccomp = c.Seccomp()
	}
	return nil
}

// perLinux32 is PER_LINUX32 of personality(2).
const perLinux32 = 8
