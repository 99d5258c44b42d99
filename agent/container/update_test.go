//go:build linux

package container

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/failure"
)

// TestUpdateRefuses has updates that are refused before anything is read of the container's cgroup: there is none here.
func TestUpdateRefuses(t *testing.T) {
	own := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}}}
	for _, tt := range []struct{ json, field string }{
		{`{"memory":{"limit":1,"future":2}}`, "linux.resources"},
		{`{"Unknown":{}}`, "linux.resources"},
		{`{} {}`, "linux.resources"},
		{``, "linux.resources"},
		{`{"memory":{"limit":"1"}}`, "linux.resources"},
		{`{"devices":[{"allow":true,"access":"rwm"}]}`, "linux.resources.devices"},
		{`{"network":{"classID":1}}`, "linux.resources.network"},
		{`{"memory":{"swappiness":1}}`, "linux.resources.memory.swappiness"},
		{`{"memory":{"disableOOMKiller":true}}`, "linux.resources.memory.disableOOMKiller"},
		{`{"cpu":{"realtimeRuntime":1}}`, "linux.resources.cpu.realtimeRuntime"},
		{`{"blockIO":{"leafWeight":10}}`, "linux.resources.blockIO.leafWeight"},
		{`{"unified":{"cgroup.freeze":"1"}}`, "linux.resources.unified"},
	} {
		err := Update(new(cgroup.Group), own, []byte(tt.json))
		if err == nil || failure.Status(err).Field != tt.field {
			t.Errorf("Update(%s) = %v; want the field %s refused", tt.json, err, tt.field)
		}
	}
}
