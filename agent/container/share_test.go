//go:build linux

package container

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestCheckShares(t *testing.T) {
	mapped := []specs.LinuxIDMapping{{Size: 1}}
	for _, tt := range []struct {
		name   string
		linux  specs.Linux
		shares []string
		field  string // refused; empty: none
	}{
		{"none", specs.Linux{}, nil, ""},
		{"all", specs.Linux{}, []string{"network", "ipc", "uts", "pid", "user", "time"}, ""},
		{"mount", specs.Linux{}, []string{"mount"}, "share.type"},
		{"cgroup", specs.Linux{}, []string{"cgroup"}, "share.type"},
		{"nothing", specs.Linux{}, []string{""}, "share.type"},
		{"path", specs.Linux{}, []string{"../mem"}, "share.type"},
		{"twice", specs.Linux{}, []string{"pid", "pid"}, "share.type"},
		{"made too", specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "pid"}}}, []string{"ipc", "pid"}, "linux.namespaces"},
		{"joined too", specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "pid", Path: "/proc/1/ns/pid"}}}, []string{"pid"}, "linux.namespaces"},
		{"users and mappings", specs.Linux{GIDMappings: mapped}, []string{"user"}, "linux.uidMappings"},
		{"time and offsets", specs.Linux{TimeOffsets: map[string]specs.LinuxTimeOffset{"boottime": {}}}, []string{"time"}, "linux.timeOffsets"},
	} {
		var shares []*pb.Share
		for _, s := range tt.shares {
			shares = append(shares, &pb.Share{Type: s, Container: "other"})
		}
		err := CheckShares(&specs.Spec{Linux: &tt.linux}, shares)
		refused := errors.Is(err, errdefs.ErrInvalidArgument)
		if refused != (tt.field != "") || refused && failure.Status(err).Field != tt.field {
			t.Errorf("%s: CheckShares(…) = %v; want field %q refused", tt.name, err, tt.field)
		}
	}
}
