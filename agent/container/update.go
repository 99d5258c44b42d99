//go:build linux

package container

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/speccheck"
)

// resources is the path of what Update changes, in a spec.
const resources = "linux.resources"

// Update changes the resources of a container's cgroup: b is the JSON of a spec's linux.resources, decoded as strictly as a spec. What it does not name, and a number of 0 where 0 would be no
// limit at all, stays as it is. The rules of the devices cannot change: only the container's own may be repeated. After an error, which names the field, everything is as it was.
func Update(group *cgroup.Group, spec *specs.Spec, b []byte) error {
	r := new(specs.LinuxResources)
	if err := decodeStrictly(b, resources, r); err != nil {
		return err
	}
	if len(r.Devices) > 0 && !sameDevices(r, spec.Linux.Resources) {
		return failure.Field(resources+".devices", "cannot be changed while the container exists")
	}
	dropZeros(r)
	if err := speccheck.Resources(r, group.Path()); err != nil {
		return err
	}
	before, err := group.Settings()
	if err != nil {
		return err
	}
	complete(r, before)
	if err := set(group, r); err != nil {
		return errors.Join(blameField(err, r), before.Restore())
	}
	return nil
}

func sameDevices(r, own *specs.LinuxResources) bool {
	return own != nil && reflect.DeepEqual(r.Devices, own.Devices)
}

// dropZeros removes numbers of 0, with which callers leave out what they do not want to change.
func dropZeros(r *specs.LinuxResources) {
	if m := r.Memory; m != nil {
		drop(&m.Limit)
		drop(&m.Swap)
		drop(&m.Reservation)
	}
	if c := r.CPU; c != nil {
		drop(&c.Shares)
		drop(&c.Quota)
		drop(&c.Period)
	}
	if b := r.BlockIO; b != nil {
		drop(&b.Weight)
	}
}

func drop[T int64 | uint64 | uint16](p **T) {
	if *p != nil && **p == 0 {
		*p = nil
	}
}

// complete adds what must be written along with what is named: a quota and its period are in one file, and the spec's swap is the sum of memory and swap, which the kernel counts apart.
func complete(r *specs.LinuxResources, now *cgroup.Settings) {
	if c := r.CPU; c != nil && (c.Quota != nil) != (c.Period != nil) {
		quota, period, _ := strings.Cut(now.Get("cpu.max"), " ")
		if c.Quota == nil {
			c.Quota = limitOf(quota)
		} else if n, err := strconv.ParseUint(period, 10, 64); err == nil {
			c.Period = &n
		}
	}
	m := r.Memory
	if m == nil || (m.Limit != nil) == (m.Swap != nil) || m.Limit != nil && *m.Limit == -1 { // without a limit of memory there is none of swap, unless it is named
		return
	}
	memory, swap := limitOf(now.Get("memory.max")), limitOf(now.Get("memory.swap.max"))
	switch {
	case m.Limit == nil:
		m.Limit = memory
	case swap != nil && memory != nil && *swap >= 0 && *memory >= 0:
		sum := *memory + *swap
		m.Swap = &sum
	default:
		m.Swap = swap
	}
}

// limitOf reads a number or "max", which a spec writes as -1; nil for anything else.
func limitOf(text string) *int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if text == "max" {
		n = -1
	} else if err != nil {
		return nil
	}
	return &n
}

// set writes resources to the group, all but devices, as libcontainer does for a new container.
func set(group *cgroup.Group, r *specs.LinuxResources) error {
	cfg, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{Spec: &specs.Spec{Linux: &specs.Linux{Resources: r}}}, nil)
	if err != nil {
		return err
	}
	cfg.SkipDevices = true
	m, err := fs2.NewManager(cfg, group.Path())
	if err != nil {
		return err
	}
	return m.Set(cfg.Resources)
}

// blameField names the field that could not be set, by the file of the cgroup that did not take it.
func blameField(err error, r *specs.LinuxResources) error {
	var file *os.PathError
	if !errors.As(err, &file) {
		return failure.Field(resources, "%v", err)
	}
	name := filepath.Base(file.Path)
	if _, ok := r.Unified[name]; ok {
		return failure.Field(resources+".unified", "%s: %v", name, file.Err)
	}
	return failure.Field(fieldOf(name), "%s: %v", name, file.Err)
}

// fieldOf gives the field of a spec that is written to a file of a cgroup.
func fieldOf(name string) string {
	controller, _, _ := strings.Cut(name, ".")
	for _, f := range []struct{ file, field string }{
		{"memory.max", "memory.limit"},
		{"memory.swap.max", "memory.swap"},
		{"memory.low", "memory.reservation"},
		{"cpu.max", "cpu.quota"},
		{"cpu.max.burst", "cpu.burst"},
		{"cpu.weight", "cpu.shares"},
		{"cpu.idle", "cpu.idle"},
		{"cpuset.cpus", "cpu.cpus"},
		{"cpuset.mems", "cpu.mems"},
		{"pids.max", "pids.limit"},
	} {
		if f.file == name {
			return resources + "." + f.field
		}
	}
	switch controller {
	case "io":
		return resources + ".blockIO"
	case "hugetlb":
		return resources + ".hugepageLimits"
	}
	return resources
}
