//go:build linux

package speccheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// versionOne is why a field of cgroup v1 is refused.
const versionOne = "is of cgroup v1, and the guest has cgroup v2"

// Resources refuses what Check and Kernel refuse of a spec's linux.resources, where they are to change those of a container that exists: cgroup is the directory of its own.
func Resources(r *specs.LinuxResources, cgroup string) error {
	if err := checkResources(r); err != nil {
		return err
	}
	return checkControllers(r, cgroup)
}

// checkResources refuses what only cgroup v1 has, and zeros that libcontainer takes for absent.
func checkResources(r *specs.LinuxResources) error {
	if err := checkDeviceRules(r.Devices); err != nil {
		return err
	}
	if r.Network != nil {
		return failure.Field("linux.resources.network", "%s", versionOne)
	}
	if m := r.Memory; m != nil {
		if err := checkMemory(m); err != nil {
			return err
		}
	}
	if c := r.CPU; c != nil {
		if err := checkCPU(c); err != nil {
			return err
		}
	}
	if b := r.BlockIO; b != nil {
		if err := checkBlockIO(b); err != nil {
			return err
		}
	}
	return checkUnified(r.Unified)
}

func checkMemory(m *specs.LinuxMemory) error {
	const at = "linux.resources.memory."
	return firstBroken(
		rule{isZero(m.Limit), at + "limit", "must not be 0: a negative one is without limit"},
		rule{m.Limit != nil && *m.Limit < -1, at + "limit", "must be -1 or more"},
		rule{isZero(m.Swap), at + "swap", "must not be 0: it counts memory and swap, and -1 is without limit"},
		rule{m.Swap != nil && *m.Swap < -1, at + "swap", "must be -1 or more"},
		rule{m.Reservation != nil && *m.Reservation < -1, at + "reservation", "must be -1 or more"},
		//lint:ignore SA1019 deprecated, and therefore refused
		rule{m.Kernel != nil, at + "kernel", versionOne},
		rule{m.KernelTCP != nil, at + "kernelTCP", versionOne},
		rule{m.Swappiness != nil, at + "swappiness", versionOne},
		rule{m.DisableOOMKiller != nil && *m.DisableOOMKiller, at + "disableOOMKiller", versionOne},
		rule{m.UseHierarchy != nil && !*m.UseHierarchy, at + "useHierarchy", "cannot be false in cgroup v2"},
	)
}

func checkCPU(c *specs.LinuxCPU) error {
	const at = "linux.resources.cpu."
	return firstBroken(
		rule{isZero(c.Shares), at + "shares", "must not be 0"},
		rule{isZero(c.Quota), at + "quota", "must not be 0: a negative one is without limit"},
		rule{c.Quota != nil && *c.Quota > 0 && *c.Quota < 1000, at + "quota", "must be 1,000 or more: it counts microseconds"},
		rule{c.Period != nil && (*c.Period < 1000 || *c.Period > 1_000_000), at + "period", "must be 1,000 to 1,000,000: it counts microseconds"},
		rule{c.RealtimeRuntime != nil, at + "realtimeRuntime", versionOne},
		rule{c.RealtimePeriod != nil, at + "realtimePeriod", versionOne},
		rule{c.Idle != nil && *c.Idle != 0 && *c.Idle != 1, at + "idle", "must be 0 or 1"},
	)
}

func checkBlockIO(b *specs.LinuxBlockIO) error {
	const at = "linux.resources.blockIO."
	if err := firstBroken(
		rule{b.LeafWeight != nil, at + "leafWeight", versionOne},
		rule{b.Weight != nil && !isWeight(*b.Weight), at + "weight", "must be 10 to 1000"},
	); err != nil {
		return err
	}
	for i, d := range b.WeightDevice {
		field := fmt.Sprintf(at+"weightDevice[%d]", i)
		if err := firstBroken(
			rule{d.LeafWeight != nil, field + ".leafWeight", versionOne},
			rule{d.Weight == nil || !isWeight(*d.Weight), field + ".weight", "must be 10 to 1000"},
		); err != nil {
			return err
		}
	}
	for field, list := range throttles(b) {
		if slices.ContainsFunc(list, func(d specs.LinuxThrottleDevice) bool { return d.Rate == 0 }) {
			return failure.Field(at+field, "the rate must not be 0")
		}
	}
	return nil
}

// throttles gives the lists of devices whose traffic is to be limited, by their names.
func throttles(b *specs.LinuxBlockIO) map[string][]specs.LinuxThrottleDevice {
	return map[string][]specs.LinuxThrottleDevice{
		"throttleReadBpsDevice": b.ThrottleReadBpsDevice, "throttleWriteBpsDevice": b.ThrottleWriteBpsDevice,
		"throttleReadIOPSDevice": b.ThrottleReadIOPSDevice, "throttleWriteIOPSDevice": b.ThrottleWriteIOPSDevice,
	}
}

func isWeight(w uint16) bool { return w >= 10 && w <= 1000 }

// checkUnified refuses names that are no files of a cgroup, and the files with which the agent governs the container: a frozen or killed init would never be created.
func checkUnified(files map[string]string) error {
	for name := range files {
		switch {
		case !strings.Contains(name, ".") || strings.ContainsAny(name, "/\n"):
			return failure.Field("linux.resources.unified", "%.64q, must be CONTROLLER.PARAMETER", name)
		case strings.HasPrefix(name, "cgroup.") && name != "cgroup.max.depth" && name != "cgroup.max.descendants":
			return failure.Field("linux.resources.unified", "%.64s is the agent's to write", name)
		}
	}
	return nil
}

func isZero[T int64 | uint64](n *T) bool { return n != nil && *n == 0 }
